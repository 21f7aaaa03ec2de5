/*
 * One attempt at something, over HTTP: what fails is a Problem. The panels in OHIF and in the Digital
 * Slide Archive share this file.
 */

/** The last events of a job; each is the last. */
const ENDS = ['done', 'failed', 'cancelled'];
const TRANSIENT = [429, 502, 503, 504];

/** What went wrong, in words for the user. */
export class Problem extends Error {
    /**
     * @param {string} message
     * @param {{status?: number, code?: string, retryAfter?: string | null}} answer `status` is 0 where
     *     there was no answer; `retryAfter` is the header of that name
     */
    constructor(message, {status = 0, code = '', retryAfter = null} = {}) {
        super(message);
        this.status = status;
        this.code = code;
        this.retryAfter = retryAfter;
    }

    /** Whether another attempt may succeed. */
    get isTransient() {
        return this.status === 0 || TRANSIENT.includes(this.status);
    }
}

/**
 * @typedef {object} Server
 * @property {string} name what users call it
 * @property {(said: object) => string} words for the user out of its JSON where it refuses something
 */

/** Its requests are aborted when the user stops it, and when nothing comes for too long. */
export class Attempt {
    /**
     * @param {Server} server
     * @param {number} silence in milliseconds
     * @param {object} clock as in retry.js
     * @param {AbortSignal} stopped by the user
     */
    constructor(server, silence, clock, stopped) {
        this._server = server;
        this._silence = silence;
        this._clock = clock;
        this._controller = new AbortController();
        this._stopped = stopped;
        this._stop = () => this._controller.abort();
        stopped.addEventListener('abort', this._stop);
    }

    /** Give up what is still open. */
    end() {
        this._stopped.removeEventListener('abort', this._stop);
        this._stop();
    }

    /** Resolve to the answer of a request as soon as it begins; reject with a Problem. */
    async fetch(url, options) {
        const answer = await this._hear(fetch(url, {...options, signal: this._controller.signal}));
        if (answer.ok) {
            return answer;
        }
        const {status, headers} = answer;
        const said = parsed(await this._hear(answer.text())) || {};
        const words = this._server.words(said) || `${this._server.name} does not answer (${status}).`;
        throw new Problem(words, {status, code: said.code, retryAfter: headers.get('Retry-After')});
    }

    /** Resolve to what an answer says, null for nothing; reject with a Problem. */
    async json(answer) {
        const text = await this._hear(answer.text());
        const said = text ? parsed(text) : null;
        if (said === undefined) {
            throw new Problem(`What answers is not JSON. Is it ${this._server.name}?`, {status: answer.status});
        }
        return said;
    }

    /** Resolve as `promise` does, which settles when something comes; reject with a Problem. */
    async _hear(promise) {
        const cancel = this._clock.after(this._silence, this._stop);
        try {
            return await promise;
        } catch (error) {
            const seconds = Math.round(this._silence / 1000);
            throw this._lost(this._controller.signal.aborted ? `it was silent for ${seconds} seconds` : error.message);
        } finally {
            cancel();
        }
    }

    /** Yield the events of an answer as they come, null for a heartbeat, to the last one of a job. */
    async* events(answer) {
        for await (const line of this._lines(answer.body)) {
            const event = line.trim() ? parsed(line) : null;
            if (event === undefined) {
                throw this._lost('a line of its stream is not JSON');
            }
            yield event;
            if (ENDS.includes(event?.event)) {
                return;
            }
        }
        throw this._lost('its stream ended too early');
    }

    /** Yield the whole lines of a stream of bytes. */
    async* _lines(stream) {
        const reader = stream.getReader();
        const decoder = new TextDecoder();
        let pending = '';
        for (;;) {
            const {value, done} = await this._hear(reader.read());
            if (done) {
                return;
            }
            const [rest, ...lines] = decoder.decode(value, {stream: true}).split('\n');
            pending += rest;
            for (const line of lines) {
                yield pending;
                pending = line;
            }
        }
    }

    _lost(why) {
        return new Problem(`${this._server.name} does not answer: ${why}.`);
    }
}

/** Return what a text of JSON says, undefined where it is none. */
function parsed(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}
