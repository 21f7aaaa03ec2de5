import assert from 'node:assert/strict';
import test from 'node:test';

import {Session} from '../src/session.js';

const WAITING = 'the server does not respond; trying again';
const MODEL = {name: 'brain', title: 'Brain', version: '1', labels: [{name: 'Brain', color: [1, 2, 3]}]};
const LABELMAP = {exists: true, size: 0, origins: new Map(), list: () => [], segments: () => new Set(), show() {}};
const VIEWER = {
    onScreen: () => ({displaySet: {StudyInstanceUID: '1', SeriesInstanceUID: '2', imageIds: []}}),
    look: () => null,
    labelmap: () => ({...LABELMAP, covers: () => true})
};

/** Never answers, and says so. */
function lost(patience) {
    patience.onWait(WAITING);
    return new Promise((resolve, reject) => {
        patience.signal.addEventListener('abort', () => {
            patience.onWait('');
            reject(patience.signal.reason);
        });
    });
}

const settled = () => new Promise((resolve) => { setTimeout(resolve, 5); });

test('what is tried again is told, and Stop gives it up', async () => {
    const client = {create: (request, patience) => lost(patience)};
    const session = new Session(client, VIEWER, 'pacs');
    const starting = session.start(MODEL, {});
    await settled();
    assert.deepEqual([session.notice.text, session.waiting, session.busy], ['Starting', WAITING, true]);
    session.stop();
    await starting;
    assert.deepEqual([session.notice, session.waiting, session.busy], [{text: 'Stopped', isError: false}, '', false]);
    assert.equal(session.run, null);
});

test('a run whose server is lost can be stopped, and so can stopping it', async () => {
    const client = {
        create: () => Promise.resolve({job: 'j', position: 0}),
        async* events(job, patience) {
            yield* await lost(patience).catch(() => []);
        },
        cancel: (job, patience) => lost(patience)
    };
    const session = new Session(client, VIEWER, 'pacs');
    session.start(MODEL, {});
    await settled();
    assert.deepEqual([session.run.state, session.run.waiting], ['waiting', WAITING]);
    const stopping = session.stop();
    await settled();
    assert.deepEqual([session.run.state, session.run.waiting], ['stopped', '']);
    assert.deepEqual([session.notice.text, session.waiting], ['Stopping', WAITING]);
    session.stop();
    await stopping;
    assert.deepEqual([session.notice.text, session.waiting], ['Stopped', '']);
    session.run.labelmap.exists = false; // it would go on drawing
});

test('a click whose server is lost can be given up, and the next one is asked', async () => {
    const asked = [];
    const client = {
        segment(request, patience) {
            asked.push(request);
            return asked.length === 1 ? lost(patience) : Promise.resolve([]);
        }
    };
    const unmarked = [];
    const viewer = {
        ...VIEWER,
        frameOfReference: () => 'f',
        labelmap: () => ({...LABELMAP, list: () => [{index: 1, label: 'a', active: true}]}),
        unmark: (mark) => unmarked.push(mark)
    };
    const session = new Session(client, viewer, 'pacs');
    session.pointer.offer([{...MODEL, prompts: ['point']}]);
    const prompt = {kind: 'point', points: [[1, 2, 3]], include: true};
    const first = session.pointer.take({prompt, mark: 'a'});
    await settled();
    assert.equal(session.waiting, WAITING);
    session.stop();
    await first;
    assert.deepEqual([session.notice, session.waiting, unmarked], [null, '', ['a']]);
    session.pointer.take({prompt, mark: 'b'});
    await settled();
    assert.equal(asked.length, 2);
    assert.deepEqual(asked.map((each) => each.prompts.length), [1, 1]);
});

test('what cannot be stored as a segmentation is stored as structures', async () => {
    const refused = Object.assign(new Error('the headers of it cannot become one'), {code: 'NotSupported'});
    const down = Object.assign(new Error('the archive is down'), {code: 'NotStored'});
    const asked = [];
    const answers = [() => { throw refused; }, () => ({series: '9'}), () => { throw down; }];
    const client = {save: async ({format}) => { asked.push(format); return answers.shift()(); }};
    const drawn = {
        ...LABELMAP, size: 1, columns: 2, read: () => new Uint8Array([0, 1]), nameOf: () => ({instance: '3', frame: 1}),
        list: () => [{index: 1, label: 'Lesion', color: [1, 2, 3]}]
    };
    const viewer = {...VIEWER, labelmap: () => drawn, storeFormat: 'dicomseg', discover: async () => {}};
    const session = new Session(client, viewer, 'pacs');
    session.nameOf = async () => 'dicomweb:pacs/1/2';
    await session.save('mine');
    assert.deepEqual(asked, ['dicomseg', 'rtstruct']);
    assert.equal(session.notice.isError, false);
    assert.match(session.notice.text, /^Stored .* "mine", as an RT Structure Set, since the headers of it/);
    await session.save('mine');
    assert.deepEqual(asked, ['dicomseg', 'rtstruct', 'dicomseg']);
    assert.deepEqual(session.notice, {text: 'the archive is down', isError: true});
});
