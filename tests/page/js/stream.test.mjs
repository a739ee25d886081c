import assert from "node:assert/strict";
import { test } from "node:test";

import { queueSentence, waitSentence } from "../../../ichseg/page/viewer/said.js";
import { QueueNews } from "../../../ichseg/page/viewer/stream.js";

const event = (message) => "data: " + JSON.stringify(message) + "\n\n";

test("a place in the queue is read from Gradio's stream, wherever its parts end", () => {
  const news = new QueueNews();
  const first = event({ msg: "estimation", event_id: "a", rank: 2, queue_size: 4, rank_eta: 11.6 });
  assert.equal(news.read(first.slice(0, 30)), undefined);
  assert.deepEqual(news.read(first.slice(30)), { ahead: 2, seconds: 11.6 });
  assert.deepEqual(news.read(event({ msg: "estimation", rank: 0, queue_size: 1, rank_eta: null })), { ahead: 0, seconds: null });
  assert.equal(news.read(event({ msg: "estimation", queue_size: 1 })), undefined); // of nobody
  assert.equal(news.read(event({ msg: "heartbeat" })), undefined);
  assert.equal(news.read(event({ msg: "estimation", rank: 0, rank_eta: 1 }) + event({ msg: "process_starts", eta: 2 })), null);
  assert.equal(news.read(event({ msg: "process_generating", output: { data: ["estimation"] } })), undefined);
});

test("a person is told the place and the wait", () => {
  assert.equal(queueSentence({ ahead: 2, seconds: 11.6 }), "Others are being served: you are number 3 in the queue, about 12 s.");
  assert.equal(queueSentence({ ahead: 0, seconds: null }), "Others are being served: you are next.");
  assert.equal(waitSentence({ people: 1, seconds: 4 }), "");
  assert.equal(waitSentence({ people: 2, seconds: 0.4 }), "Segmenting… 1 other waits as well, about 1 s.");
  assert.equal(waitSentence({ people: 8, seconds: null }), "Segmenting… 7 others wait as well.");
});
