/* Requests to Girder, tried again by the policy of isoline: it passes on what the isoline server says. */
import {girder} from './page.js';
import {newKey, Policy} from './retry.js';

const STORING_MS = 120000; // Girder may be slow to store what was found

/** What users hear of it. */
export const GIRDER = {name: 'Girder', words: ({message}) => message};

/** Every method rejects with a Problem. Those that take `patience`, see Policy, try again. */
export class GirderApi {
    constructor(policy = new Policy(GIRDER)) {
        this._policy = policy;
    }

    /** Resolve to what a route answers. */
    call(method, route, body, patience) {
        return this._policy.request((attempt) => this._json(attempt, method, route, body), patience);
    }

    /** Resolve to what a route answers that may not be asked twice. */
    once(method, route, body) {
        return this._policy.once((attempt) => this._json(attempt, method, route, body), {silence: STORING_MS});
    }

    /** Start one run, however often that has to be asked for, and resolve to it. */
    start(itemId, request, patience) {
        const key = newKey();
        return this._policy.request(
            (attempt) => this._json(attempt, 'POST', `isoline/item/${itemId}/run`, request, key), patience);
    }

    /** Yield the events of a run, each once and in order. */
    events(runId, patience) {
        return this._policy.events(
            (attempt, after) => this._open(attempt, 'GET', `isoline/run/${runId}/events?after=${after}`), patience);
    }

    /** Resolve to the events that answer a request with prompts. */
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
