/*
 * A client of an isoline server: requests, and events that survive a lost connection. See
 * docs/protocol.md.
 */

import {newKey, Policy} from './retry.js';

const SAVING_MS = 120_000; // an archive may be slow to store an object

/** The server in messages to the user. */
export const ISOLINE = {
    name: 'The isoline server',
    words: ({detail, remedy}) => [detail, remedy].filter(Boolean).map(sentence).join(' ')
};

/** The keys of this plugin's requests, as in docs/protocol.md#a-request. */
export const REQUEST_KEYS = [
    'image', 'model', 'parameters', 'slice', 'prompts', 'initial', 'frame_of_reference', 'format'
];

/** Return the body of a request, without undefined values. Throws TypeError for any other key. */
export function requestOf(values) {
    const unknown = Object.keys(values).filter((key) => !REQUEST_KEYS.includes(key));
    if (unknown.length) {
        throw new TypeError(`not among the keys of a request: ${unknown}`);
    }
    return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

/**
 * Every method rejects with a Problem. Those that take a `Patience` (see retry.js) retry.
 */
export class Client {
    /**
     * @param {string} server the address of the server
     * @param {() => string} authorization returns the value of the Authorization header, '' for none
     */
    constructor(server, authorization = () => '', policy = new Policy(ISOLINE)) {
        this._server = server.endsWith('/') ? server : `${server}/`;
        this._authorization = authorization;
        this._policy = policy;
    }

    /** Resolve to the models, as in docs/protocol.md#models. */
    async models(patience) {
        return (await this._ask('GET', 'v1/models', {}, patience)).models;
    }

    /** Resolve to the names of the archives that the server reads series from. */
    async archives(patience) {
        return (await this._ask('GET', 'v1/images', {}, patience)).archives ?? [];
    }

    /** Create a job and resolve to {job, position}: its id, and the number of jobs before it. */
    create(request, patience) {
        const headers = {'Idempotency-Key': newKey()}; // the same with each attempt
        return this._ask('POST', 'v1/jobs', {body: request, headers}, patience);
    }

    /** Resolve to the events of a request that is not queued as a job, such as one with prompts. */
    segment(request, patience) {
        return this._policy.answer((attempt) => this._open(attempt, 'POST', 'v1/segment', {body: request}), patience);
    }

    /** Move the focus of a job to a slice: {slice}. */
    look(job, body, patience) {
        return this._ask('PATCH', `v1/jobs/${job}`, {body}, patience);
    }

    /** Cancel a job. */
    cancel(job, patience) {
        return this._ask('DELETE', `v1/jobs/${job}`, {}, patience);
    }

    /** Cancel a job while the page is closing, without waiting for a response. */
    abandon(job) {
        fetch(this._server + `v1/jobs/${job}`, {...this._options('DELETE'), keepalive: true}).catch(() => {});
    }

    /**
     * Store a segmentation in the archive and resolve to its UIDs. It is not retried, since the status
     * is the same whether the archive is down or refuses it; the user can try again.
     */
    save(segmentation) {
        return this._policy.once(
            (attempt) => this._json(attempt, 'POST', 'v1/segmentations', {body: segmentation}), {silence: SAVING_MS});
    }

    /** Yield the events of a job, each once, in order. */
    events(job, patience) {
        return this._policy.events(
            (attempt, after) => this._open(attempt, 'GET', `v1/jobs/${job}/events?after=${after}`), patience);
    }

    _ask(method, route, options, patience) {
        return this._policy.request((attempt) => this._json(attempt, method, route, options), patience);
    }

    async _json(attempt, method, route, options) {
        return attempt.json(await this._open(attempt, method, route, options));
    }

    _open(attempt, method, route, options) {
        return attempt.fetch(this._server + route, this._options(method, options));
    }

    _options(method, {body, headers = {}} = {}) {
        const authorization = this._authorization();
        return {
            method,
            headers: {
                ...headers,
                ...(authorization && {Authorization: authorization}),
                ...(body !== undefined && {'Content-Type': 'application/json'})
            },
            body: JSON.stringify(body)
        };
    }
}

function sentence(text) {
    const capital = text[0].toUpperCase() + text.slice(1);
    return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
