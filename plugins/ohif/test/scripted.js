/*
 * A server that answers from a script, and a clock that jumps to what everybody waits for.
 */

/** A clock for Policy: as soon as nothing else happens, it is time for what comes next. */
export class JumpingClock {
    constructor({chance = 0.5} = {}) {
        this.time = 0;
        this.random = () => chance;
        this._timers = new Set();
    }

    now() { return this.time; }
    date() { return Date.UTC(2026, 0, 1) + this.time; }

    after(milliseconds, action) {
        const timer = {due: this.time + milliseconds, action};
        this._timers.add(timer);
        this._soon();
        return () => this._timers.delete(timer);
    }

    _soon() {
        clearTimeout(this._idle);
        this._idle = setTimeout(() => {
            const [next] = [...this._timers].sort((a, b) => a.due - b.due);
            if (next) {
                this._timers.delete(next);
                this.time = next.due;
                next.action();
                this._soon();
            }
        }, 3);
    }
}

/** Answers requests with `answers`, one after the other, and again with the last one. */
export class Script {
    /** @param {((request: object) => Response | Promise<Response>)[]} answers */
    constructor(clock, ...answers) {
        this._clock = clock;
        this._answers = answers;
        /** What was asked: {at, method, url, headers, body} */
        this.requests = [];
    }

    /** Stands in for `fetch`. */
    fetch = async (url, {method = 'GET', headers = {}, body, signal}) => {
        this.requests.push({at: this._clock.time, method, url: String(url), headers, body});
        const answer = this._answers.length > 1 ? this._answers.shift() : this._answers[0];
        return answer({signal});
    };

    /** The pauses between requests, in milliseconds. */
    get pauses() {
        return this.requests.slice(1).map(({at}, k) => at - this.requests[k].at);
    }
}

export function json(value, status = 200, headers = {}) {
    return () => new Response(JSON.stringify(value), {status, headers});
}

export function refused() {
    throw new TypeError('fetch failed');
}

/** Never answers. */
export function silent({signal}) {
    return new Promise((resolve, reject) => { rejectWith(signal, reject); });
}

/** Answers with `text`, and then the stream is 'whole', 'reset' or 'silent'. */
export function stream(text, then = 'whole') {
    return ({signal}) => new Response(new ReadableStream({
        start(controller) {
            controller.enqueue(new TextEncoder().encode(text));
            rejectWith(signal, (error) => controller.error(error));
        },
        pull(controller) {
            if (then === 'whole') {
                controller.close();
            } else if (then === 'reset') {
                controller.error(new TypeError('terminated'));
            }
            return then === 'silent' ? new Promise(() => {}) : undefined;
        }
    }));
}

/** Return events of these numbers as lines; the last of a job is called 'done'. */
export function lines(...seqs) {
    return seqs.map((seq) => `${JSON.stringify({event: seq === LAST_SEQ ? 'done' : 'mask', seq})}\n`).join('');
}

/** The number of the last event in a script. */
export const LAST_SEQ = 9;

function rejectWith(signal, reject) {
    signal.addEventListener('abort', () => {
        try {
            reject(signal.reason);
        } catch {
            // the stream has ended already
        }
    });
}
