/*
 * An isoline server: requests, and events that survive a lost connection. See docs/protocol.md.
 */

const LAST = ['done', 'failed', 'cancelled'];
const SILENCE_MS = 15_000; // there is a heartbeat each second
const ANSWER_MS = 120_000; // an archive may be slow to take what is stored
const STOP_MS = 5000;
const LONGEST_WAIT_MS = 5000;

/** What went wrong, in words for the user. */
export class Problem extends Error {
    constructor(message, {status = 0, code = ''} = {}) {
        super(message);
        this.status = status;
        this.code = code;
    }

    /** Whether there was no answer, so that it may help to ask again. */
    get isSilence() {
        return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
    }
}

export class Client {
    /**
     * @param {string} server its address
     * @param {() => string} authorization the header of that name, '' for none
     */
    constructor(server, authorization = () => '') {
        this._server = server.endsWith('/') ? server : `${server}/`;
        this._authorization = authorization;
    }

    /** Resolve to the models, each as in docs/protocol.md#models. */
    async models() {
        return (await this._ask('GET', 'v1/models')).models;
    }

    /** Resolve to the names of the archives that the server reads series from. */
    async archives() {
        return (await this._ask('GET', 'v1/images')).archives ?? [];
    }

    /** Start a job and resolve to {job, position}: its id, and how many wait before it. */
    create(request) {
        return this._ask('POST', 'v1/jobs', request);
    }

    /** Yield the events of a request that is answered at once, until `signal` says otherwise. */
    async* segment(request, signal) {
        const answer = await this._fetch('POST', 'v1/segment', request, {signal});
        for await (const line of linesOf(answer.body)) {
            if (line) {
                yield JSON.parse(line);
            }
        }
    }

    /** Say where the user looks now: {slice}. */
    look(job, body) {
        return this._ask('PATCH', `v1/jobs/${job}`, body);
    }

    /** Stop a job; `last` when the page goes away. */
    cancel(job, {last = false} = {}) {
        return this._ask('DELETE', `v1/jobs/${job}`, undefined, {
            keepalive: last, signal: AbortSignal.timeout(STOP_MS)
        });
    }

    /** Store a segmentation in the archive and resolve to the names of what was stored. */
    save(segmentation) {
        return this._ask('POST', 'v1/segmentations', segmentation);
    }

    /**
     * Yield the events of a job, each once and in order; a lost stream is taken up again until
     * `signal` says otherwise.
     *
     * @param {string} job
     * @param {AbortSignal} signal
     * @param {(silent: boolean) => void} onSilence told when the server is lost and found
     */
    async* events(job, signal, onSilence = () => {}) {
        let after = -1;
        let failures = 0;
        while (!signal.aborted) {
            const stream = new AbortController();
            const stop = () => stream.abort();
            signal.addEventListener('abort', stop);
            try {
                const answer = await this._fetch(
                    'GET', `v1/jobs/${job}/events?after=${after}`, undefined, {signal: stream.signal});
                for await (const line of linesOf(answer.body, stop)) {
                    if (failures) {
                        failures = 0;
                        onSilence(false);
                    }
                    const event = line ? JSON.parse(line) : null; // an empty line is a heartbeat
                    if (event && event.seq > after) {
                        after = event.seq;
                        yield event;
                    }
                    if (event && LAST.includes(event.event)) {
                        return;
                    }
                }
            } catch (error) {
                const isLost = error instanceof Problem ? error.isSilence : !(error instanceof SyntaxError);
                if (!isLost) {
                    throw error;
                }
            } finally {
                signal.removeEventListener('abort', stop);
                stop();
            }
            if (!signal.aborted) {
                failures += 1;
                onSilence(true);
                await pause(Math.min(LONGEST_WAIT_MS, 100 * 2 ** failures), signal);
            }
        }
    }

    async _ask(method, route, body, options) {
        const answer = await this._fetch(
            method, route, body, {signal: AbortSignal.timeout(ANSWER_MS), ...options});
        return answer.status === 204 ? null : answer.json();
    }

    async _fetch(method, route, body, options = {}) {
        const headers = {};
        const authorization = this._authorization();
        if (authorization) {
            headers.Authorization = authorization;
        }
        if (body !== undefined) {
            headers['Content-Type'] = 'application/json';
        }
        let answer;
        try {
            answer = await fetch(this._server + route, {
                method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options
            });
        } catch (error) {
            throw new Problem(`The isoline server does not answer: ${error.message}.`);
        }
        if (!answer.ok) {
            throw await problemOf(answer);
        }
        return answer;
    }
}

async function problemOf(answer) {
    const {detail, remedy, code} = await answer.json().catch(() => ({}));
    const message = [detail, remedy].filter(Boolean).map(sentence).join(' ');
    const silent = `The isoline server does not answer (${answer.status}).`;
    return new Problem(message || silent, {status: answer.status, code});
}

function sentence(text) {
    const capital = text[0].toUpperCase() + text.slice(1);
    return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

/** Yield the whole lines of a stream of bytes; `giveUp` is called when it falls silent. */
export async function* linesOf(stream, giveUp = () => {}) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let pending = '';
    for (;;) {
        const timer = setTimeout(giveUp, SILENCE_MS);
        const {value, done} = await reader.read().finally(() => clearTimeout(timer));
        if (done) {
            return;
        }
        const lines = (pending + value).split('\n');
        pending = lines.pop();
        yield* lines;
    }
}

function pause(milliseconds, signal) {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        signal.addEventListener('abort', () => {
            clearTimeout(timer);
            resolve();
        }, {once: true});
    });
}
