/*
 * A server that has recorded events for answers, in place of `fetch`.
 */

export class RecordedServer {
    constructor() {
        this._streams = [];
        this._answers = [];
        this._wake = () => {};
        /** The bodies of jobs and of questions, as they came. */
        this.requests = [];
    }

    /** Answer the next job with the text of a stream; resolve when the client has read it and wants more. */
    job(text) {
        return new Promise((resolve) => { this._streams.push({text, resolve}); });
    }

    /** Answer the next question with prompts with these events. */
    answer(events) {
        this._answers.push(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
    }

    /** Forget answers that nobody has asked for. */
    forget() {
        this._answers = [];
    }

    /** Resolve to the next request that has no answer. */
    unanswered() {
        return new Promise((resolve) => { this._wake = resolve; });
    }

    /** Stands in for `fetch`. */
    fetch = async (url, {method = 'GET', body} = {}) => {
        const {pathname} = new URL(url);
        if (pathname.endsWith('/events')) {
            const stream = this._streams[Number(pathname.split('/').at(-2))];
            const {text, resolve} = stream;
            stream.text = null;
            return text === null ? never(resolve) : new Response(text);
        }
        if (method !== 'POST') {
            return new Response('{}');
        }
        this.requests.push(JSON.parse(body));
        if (pathname.endsWith('/jobs') && this._streams.length) {
            return new Response(JSON.stringify({job: String(this._streams.length - 1), position: 0}));
        }
        const answer = this._answers.shift();
        return answer === undefined ? never(() => this._wake(this.requests.at(-1))) : new Response(answer);
    };
}

function never(called) {
    called();
    return new Promise(() => {});
}
