/* Requests to Girder, which forwards the isoline server's responses; they are retried like isoline's own. */
import {girder} from './page.js';
import {newKey, Policy} from './retry.js';

const STORING_MS = 120000; // Girder may be slow to store results

/** Girder in messages to the user. */
export const GIRDER = {name: 'Girder', words: ({message}) => message};

/** Every method rejects with a Problem. Those that take a `Patience` (see retry.js) retry. */
export class GirderApi {
    constructor(policy = new Policy(GIRDER)) {
        this._policy = policy;
    }

    /** Resolve to the response of a route. */
    call(method, route, body, patience) {
        return this._policy.request((attempt) => this._json(attempt, method, route, body), patience);
    }

    /** Resolve to the response of a route whose requests must not be repeated. */
    once(method, route, body) {
        return this._policy.once((attempt) => this._json(attempt, method, route, body), {silence: STORING_MS});
    }

    /** Start a run and resolve to it; retries do not start another. */
    start(itemId, request, patience) {
        const key = newKey();
        return this._policy.request(
            (attempt) => this._json(attempt, 'POST', `isoline/item/${itemId}/run`, request, key), patience);
    }

    /** Yield the events of a run, each once, in order. */
    events(runId, patience) {
        return this._policy.events(
            (attempt, after) => this._open(attempt, 'GET', `isoline/run/${runId}/events?after=${after}`), patience);
    }

    /** Resolve to the events of a request with prompts. */
    prompt(itemId, request, patience) {
        return this._policy.answer(
            (attempt) => this._open(attempt, 'POST', `isoline/item/${itemId}/prompt`, request), patience);
    }

    async _json(attempt, ...request) {
        return attempt.json(await this._open(attempt, ...request));
    }

    _open(attempt, method, route, body, key) {
        return attempt.fetch(`${girder.rest.getApiRoot()}/${route}`, {
            method,
            headers: {
                'Girder-Token': girder.auth.getCurrentToken() || '',
                ...(body !== undefined && {'Content-Type': 'application/json'}),
                ...(key && {'Idempotency-Key': key})
            },
            body: JSON.stringify(body)
        });
    }
}

export const Api = new GirderApi();
