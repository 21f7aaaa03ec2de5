/*
 * Retries, as described in docs/protocol.md, "Trying again". The panels in OHIF and in the Digital
 * Slide Archive share this file.
 */

import {Attempt} from './attempt.js';

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8000;
const NEVER = new AbortController().signal;

/** The timeouts of the policy, in milliseconds. */
const LIMITS = {
    silence: 15_000, // there is a heartbeat each second
    request: 30_000, // from the first attempt at a short request to the last
    stream: 300_000 // from the last sign of life of a stream to the last attempt
};

/** Time and random numbers, which tests replace. */
const CLOCK = {
    now: () => performance.now(),
    date: () => Date.now(),
    random: () => Math.random(),
    /** Call `action` after a delay; return a function that cancels it. */
    after(milliseconds, action) {
        const timer = setTimeout(action, milliseconds);
        return () => clearTimeout(timer);
    }
};

/**
 * @typedef {object} Patience
 * @property {AbortSignal} [signal] aborted when the user stops it, also during a pause
 * @property {(text: string) => void} [onWait] called with a message for the user before each pause,
 *     and with '' when the server responds again
 */

export class Policy {
    /**
     * @param {import('./attempt.js').Server} server
     * @param {Partial<typeof LIMITS>} limits
     */
    constructor(server, limits = {}, clock = CLOCK) {
        this._server = server;
        this._limits = {...LIMITS, ...limits};
        this._clock = clock;
    }

    /**
     * Resolve to the result of a short request.
     *
     * Rejects with a Problem if it is final or there is no further attempt, or with the reason of
     * `signal`.
     *
     * @template T
     * @param {(attempt: Attempt) => Promise<T>} send
     * @param {Patience} patience
     * @returns {Promise<T>}
     */
    async request(send, {signal = NEVER, onWait} = {}) {
        const failures = new Failures(this._limits.request, this._clock, onWait);
        for (;;) {
            signal.throwIfAborted();
            try {
                const answer = await this.once(send, {signal});
                failures.forget();
                return answer;
            } catch (error) {
                await failures.add(error, signal);
            }
        }
    }

    /**
     * Resolve to the result of a request that is not retried; rejects with a Problem.
     *
     * @template T
     * @param {(attempt: Attempt) => Promise<T>} send
     * @param {{signal?: AbortSignal, silence?: number}} how `silence`: the timeout in milliseconds, for
     *     requests that take long
     * @returns {Promise<T>}
     */
    async once(send, {signal = NEVER, silence = this._limits.silence} = {}) {
        const attempt = new Attempt(this._server, silence, this._clock, signal);
        try {
            return await send(attempt);
        } finally {
            attempt.end();
        }
    }

    /**
     * Resolve to the events of a request that may safely be repeated; rejects like `request`.
     *
     * @param {(attempt: Attempt) => Promise<Response>} open
     * @param {Patience} patience
     * @returns {Promise<object[]>}
     */
    answer(open, patience) {
        return this.request(async (attempt) => {
            const events = [];
            for await (const event of attempt.events(await open(attempt))) {
                events.push(event);
            }
            return events.filter(Boolean); // without the heartbeats
        }, patience);
    }

    /**
     * Yield the events of a job, each once, in order, to the last one or until `signal` is aborted; a
     * lost stream is resumed. Throws a Problem if it is final or there is no further attempt.
     *
     * @param {(attempt: Attempt, after: number) => Promise<Response>} open
     * @param {Patience} patience
     */
    async* events(open, {signal = NEVER, onWait} = {}) {
        const failures = new Failures(this._limits.stream, this._clock, onWait);
        let after = -1;
        while (!signal.aborted) {
            const attempt = new Attempt(this._server, this._limits.silence, this._clock, signal);
            let problem;
            try {
                for await (const event of attempt.events(await open(attempt, after))) {
                    failures.forget();
                    if (event?.seq > after) {
                        after = event.seq;
                        yield event;
                    }
                }
                return;
            } catch (error) {
                problem = error;
            } finally {
                attempt.end();
            }
            await failures.add(problem, signal);
        }
    }
}

/** The consecutive failures of one request. */
class Failures {
    constructor(limit, clock, onWait = () => {}) {
        this._limit = limit;
        this._clock = clock;
        this._onWait = onWait;
        this._count = 0;
        this._since = clock.now();
    }

    /** Reset the count and the time limit after a sign of life. */
    forget() {
        this._since = this._clock.now();
        if (this._count) {
            this._count = 0;
            this._onWait('');
        }
    }

    /** Pause before the next attempt; reject with `problem` if there is none. */
    async add(problem, signal) {
        this._count += 1;
        const asked = this._asked(problem);
        const pause = this._pause(asked);
        const isLast = this._clock.now() + pause > this._since + this._limit;
        if (problem.isTransient && !isLast && !signal.aborted) {
            this._onWait(asked
                ? `the server is busy; trying again in ${Math.ceil(pause / 1000)} s`
                : 'the server does not respond; trying again');
            await this._elapse(pause, signal);
            if (!signal.aborted) {
                return;
            }
        }
        this.forget();
        if (!signal.aborted) {
            throw problem;
        }
    }

    /** Return the pause in milliseconds that the server requested, 0 if it requested none. */
    _asked({retryAfter}) {
        const milliseconds = /^\d+$/.test(retryAfter)
            ? Number(retryAfter) * 1000
            : Date.parse(retryAfter) - this._clock.date();
        return Math.max(0, milliseconds) || 0;
    }

    _pause(asked) {
        const chance = this._clock.random();
        return asked
            ? asked * (1.01 + 0.08 * chance) // a timer may be a little early
            : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this._count - 1)) * (0.75 + 0.5 * chance);
    }

    _elapse(milliseconds, signal) {
        return new Promise((resolve) => {
            const wake = () => {
                cancel();
                signal.removeEventListener('abort', wake);
                resolve();
            };
            const cancel = this._clock.after(milliseconds, wake);
            signal.addEventListener('abort', wake);
        });
    }
}

/** Sends requests of which each replaces the previous one: only the latest is retried. */
export class Latest {
    /** Resolve when `send(signal)` has succeeded or a later one has replaced it. */
    async send(send) {
        this.stop();
        const {signal} = this._sending = new AbortController();
        try {
            await send(signal);
        } catch (error) {
            if (!signal.aborted) {
                throw error;
            }
        }
    }

    stop() {
        this._sending?.abort();
    }
}

/** Return a new Idempotency-Key, by which the server recognises a submission that is repeated. */
export function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID requires a secure context
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
