/*
 * A single HTTP request; every failure is a Problem. The panels in OHIF and in the Digital Slide
 * Archive share this file.
 */

/** The events that end a job. */
const ENDS = ['done', 'failed', 'cancelled'];
const TRANSIENT = [429, 502, 503, 504];

/** An error, with a message for the user. */
export class Problem extends Error {
    /**
     * @param {string} message
     * @param {{status?: number, code?: string, retryAfter?: string | null}} answer `status` is 0 if
     *     there was no response; `retryAfter` is the value of the Retry-After header
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
 * @property {string} name its name in messages to the user
 * @property {(said: object) => string} words returns a message for the user from the JSON of an error
 *     response
 */

/** Its requests are aborted when the user stops it, and when nothing arrives for too long. */
export class Attempt {
    /**
     * @param {Server} server
     * @param {number} silence the timeout in milliseconds
     * @param {object} clock as in retry.js
     * @param {AbortSignal} stopped aborted when the user stops it
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

    /** Abort any request that is still open. */
    end() {
        this._stopped.removeEventListener('abort', this._stop);
        this._stop();
    }

    /** Resolve to the response as soon as its headers arrive; reject with a Problem. */
    async fetch(url, options) {
        const answer = await this._hear(fetch(url, {...options, signal: this._controller.signal}));
        if (answer.ok) {
            return answer;
        }
        const {status, headers} = answer;
        const said = parsed(await this._hear(answer.text())) || {};
        const words = this._server.words(said) || `${this._server.name} does not respond (${status}).`;
        throw new Problem(words, {status, code: said.code, retryAfter: headers.get('Retry-After')});
    }

    /** Resolve to the parsed JSON of a response, null for an empty one; reject with a Problem. */
    async json(answer) {
        const text = await this._hear(answer.text());
        const said = text ? parsed(text) : null;
        if (said === undefined) {
            const message = `${this._server.name} sent a response that is not JSON. Is its address right?`;
            throw new Problem(message, {status: answer.status});
        }
        return said;
    }

    /** Resolve as `promise` does, which settles when something arrives; reject with a Problem. */
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

    /**
     * Yield the events of a response as they arrive, to the last event of the job; null for a
     * heartbeat. Throws a Problem.
     */
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

    /** Yield the complete lines of a stream of bytes. */
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
        return new Problem(`${this._server.name} does not respond: ${why}.`);
    }
}

/** Return the value of JSON, undefined if `text` is not JSON. */
function parsed(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}
