/* Requests to Girder. */
import {pause} from './dom.js';
import {girder} from './page.js';

/** The last events of a job; each is the last. */
export const ENDS = ['done', 'failed', 'cancelled'];

export const Api = {
    /** Resolve to what a route answers; reject with an Error whose message is for the user. */
    async call(method, route, body) {
        const answer = await this._fetch(method, route, body);
        return answer.status === 204 ? null : answer.json();
    },

    /** Yield the events of a run, each once; a lost stream is taken up again. */
    async* events(runId, signal) {
        let after = -1;
        let failures = 0;
        while (!signal.aborted && failures < 20) {
            try {
                const route = `isoline/run/${runId}/events?after=${after}`;
                for await (const event of this.stream('GET', route, undefined, signal)) {
                    failures = 0;
                    if (event.seq > after) {
                        after = event.seq;
                        yield event;
                    }
                    if (ENDS.includes(event.event)) {
                        return;
                    }
                }
            } catch (error) {
                if (signal.aborted) {
                    return;
                }
                if (error.status === 404) {
                    throw error;
                }
            }
            failures += 1;
            await pause(Math.min(5000, 100 * 2 ** failures));
        }
    },

    /** Yield the events of one answer as they come; none is asked for again. */
    async* stream(method, route, body, signal) {
        const answer = await this._fetch(method, route, body, signal);
        for await (const line of linesOf(answer.body)) {
            if (line) { // else a heartbeat
                yield JSON.parse(line);
            }
        }
    },

    async _fetch(method, route, body, signal) {
        const headers = {'Girder-Token': girder.auth.getCurrentToken() || ''};
        if (body !== undefined) {
            headers['Content-Type'] = 'application/json';
        }
        let answer;
        try {
            answer = await fetch(`${girder.rest.getApiRoot()}/${route}`, {
                method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body)
            });
        } catch (error) {
            throw signal && signal.aborted ? error : new Error('Girder does not answer.');
        }
        if (!answer.ok) {
            const said = await answer.json().catch(() => ({}));
            const error = new Error(said.message || `Girder answered ${answer.status}.`);
            error.status = answer.status;
            throw error;
        }
        return answer;
    }
};

/** Yield the whole lines of a stream of bytes. */
async function* linesOf(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let pending = '';
    for (;;) {
        const {value, done} = await reader.read();
        if (done) {
            return;
        }
        const lines = (pending + value).split('\n');
        pending = lines.pop();
        yield* lines;
    }
}
