// What Python does in passing, once the person rests: second looks at boxes. No operation waits for them.

const REST_MS = 350;
const ASIDE_PATIENCE_MS = 120000;
let resting = 0;
let looking = null; // the slice that is being looked at again
let forgetting = 0;
let lastBetter = 0;
let askedAfter = 0; // the last answer to an operation when it was asked

const roughSlices = () => marked().filter((slice) => slices.get(slice).rough?.length);

function rest() {
  // A quiet moment from now on, unless something happens before.
  const rough = lost ? [] : roughSlices();
  root.dataset.rough = rough.length;
  clearTimeout(resting);
  if (lost) return;
  if ((rough.length || scoresWanted() || growthWanted() || measureWanted() || askHub) && looking === null) resting = setTimeout(lookCloser, REST_MS);
}

function lookCloser() {
  if (ops.length || gesture || draft) return; // each ends with a rest
  looking = roughSlices().sort((a, b) => Math.abs(a - k) - Math.abs(b - k))[0] ?? k;
  askedAfter = lastReply;
  clearTimeout(forgetting);
  forgetting = setTimeout(() => { looking = null; rest(); }, ASIDE_PATIENCE_MS);
  say({ aside: { slice: looking, at: k, compare: scoresWanted(), measure: measureMessage(), methods: askHub } });
  trigger("aside");
}

watch("better", () => {
  const reply = props.better;
  if (!reply?.n || reply.n === lastBetter) return;
  lastBetter = reply.n;
  clearTimeout(forgetting);
  looking = null;
  if (reply.gone) return loseScan("The server no longer has this scan");
  measureAnswered();
  if (reply.choices) takeChoices(reply.choices);
  // While an operation is unanswered its answer is the one to believe.
  if (scan && reply.case === scan.token && !ops.length) {
    const before = JSON.stringify(here().ml);
    takeTotals(reply);
    takeRoles(reply);
    takeGrowth(reply.growth);
    Object.assign(trouble, reply.trouble);
    for (const [key, state] of Object.entries(reply.slices)) keepSlice(Number(key), state);
    if (reply.scores && reply.scores.slice === k && lastReply === askedAfter) {
      scores = reply.scores;
      scored = scoreKey();
    }
    takeMeasures(reply.measures);
    if (JSON.stringify(here().ml) !== before) announceVolumes();
  }
  showAll();
});
