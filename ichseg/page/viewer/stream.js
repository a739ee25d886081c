// What Gradio's stream says of the queue. Pure.

/** Reads the stream as it comes, in parts that may end anywhere. */
export class QueueNews {
  constructor() {
    this.rest = "";
  }

  /**
   * What a part of the stream says: {ahead, seconds} of a place in the queue, null once the request is being served;
   * undefined where it says nothing of either.
   *
   * @param {string} part
   * @returns {{ ahead: number, seconds: number | null } | null | undefined}
   */
  read(part) {
    const messages = (this.rest + part).split("\n\n");
    this.rest = messages.pop();
    let news;
    for (const message of messages) {
      if (message.includes('"process_starts"')) news = null;
      else if (message.includes('"estimation"')) news = placeOf(message) ?? news;
    }
    return news;
  }
}

function placeOf(message) {
  const { msg, rank, rank_eta } = JSON.parse(message.slice(message.indexOf("{")));
  return msg === "estimation" && Number.isInteger(rank) ? { ahead: rank, seconds: rank_eta ?? null } : undefined;
}
