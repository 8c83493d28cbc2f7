package web_test

import (
	"testing"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/confab-im/confab/edge/web/webtest"
)

// TestSDK runs the parts of the SDK that need no server, in a browser because that is where they must work.
func TestSDK(t *testing.T) {
	if testing.Short() {
		return // It needs a browser.
	}
	bundle := api.Build(api.BuildOptions{
		Stdin: &api.StdinOptions{ResolveDir: "sdk", Contents: `
			export * from "./backoff.js"; export * from "./ids.js"; export * from "./fold.js"; export * from "./outbox.js";
			export * from "./log.js"; export * from "./storage.js"; export * from "./protocol.js"; export * from "./credentials.js";`},
		Bundle: true, Format: api.FormatIIFE, GlobalName: "sdk", Target: api.ES2020,
	})
	if len(bundle.Errors) > 0 {
		t.Fatal(bundle.Errors)
	}
	b := open(t, webtest.Start(t), "data:text/html,<div id=app></div>")
	webtest.Eval[bool](b.Tab, string(bundle.OutputFiles[0].Contents)+";globalThis.sdk = sdk; true")
	for _, c := range sdkTests {
		t.Run(c.name, func(t *testing.T) {
			if !webtest.Eval[bool](b.Tab, "(async () => {"+c.script+"})()") {
				t.Error("not so")
			}
		})
	}
}

// sdkTests are functions in JavaScript that return whether what their name says is so.
var sdkTests = []struct{ name, script string }{
	{"the delay is full jitter between half a second and twenty", `
			const all = [];
			for (let n = 0; n < 40; n++) for (let i = 0; i < 200; i++) all.push(sdk.delay(n));
			const edges = [sdk.delay(0, 0, () => 0), sdk.delay(0, 0, () => 1), sdk.delay(3, 0, () => 1), sdk.delay(50, 0, () => 0), sdk.delay(50, 0, () => 1)];
			return all.every((ms) => ms >= 500 && ms <= 20000) && String(edges) === "500,1000,8000,500,20000";`},
	{"the delay is never shorter than the server asked for, at most half as long again, and bounded", `
			const all = [];
			for (let i = 0; i < 200; i++) all.push(sdk.delay(0, 10000));
			const edges = [sdk.delay(0, 10000, () => 0), sdk.delay(0, 10000, () => 1), sdk.delay(50, 1000, () => 1), sdk.delay(0, 1e12, () => 0)];
			return all.every((ms) => ms >= 10000 && ms <= 15000) && new Set(all).size > 1 && String(edges) === "10000,15000,20000,300000";`},
	{"a close code decides whether to come back", `
			return [1006, 1001, 4000, 4001, 4006, 4499].every((c) => sdk.afterClose(c) === "reconnect")
				&& [4003, 4500].every((c) => sdk.afterClose(c) === "refresh")
				&& [4501, 4502, 4503, 4504, 4505, 4506, 4999].every((c) => sdk.afterClose(c) === "stop");`},
	{"client ids are UUIDv7, carry the time, and ascend", `
			const ids = Array.from({ length: 5000 }, () => sdk.uuidv7(1.7e12));
			const form = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
			const ascending = ids.every((id, i) => i === 0 || ids[i - 1] < id);
			const back = sdk.uuidv7(1.6e12);
			return ids.every((id) => form.test(id)) && ascending && sdk.timeOf(ids[0]) === 1.7e12 && sdk.timeOf(back) === 1.6e12 && sdk.timeOf("x") === 0;`},
	{"folding takes the newest edit, each user's last reaction, and a recall over all", `
			const a = new sdk.Amendments();
			const base = { seq: 1, kind: "message", from: "ada", at: "1", body: { text: "a" }, reactions: { "+": ["cy"] } };
			a.add({ seq: 5, kind: "edit", target: 1, at: "5", body: { text: "e5" } });
			a.add({ seq: 3, kind: "edit", target: 1, at: "3", body: { text: "e3" } });
			a.add({ seq: 6, kind: "reaction", target: 1, from: "bob", body: { emoji: "+" } });
			a.add({ seq: 7, kind: "reaction", target: 1, from: "cy", body: { emoji: "+", remove: true } });
			a.add({ seq: 4, kind: "reaction", target: 1, from: "cy", body: { emoji: "+" } });
			const folded = a.fold(base);
			const late = a.fold({ ...base, body: { text: "e9" }, edited_at: "9" });
			a.add({ seq: 8, kind: "recall", target: 1 });
			const gone = a.fold(base);
			return folded.body.text === "e5" && String(folded.reactions["+"]) === "bob" && late.body.text === "e9"
				&& gone.recalled && !gone.body && !gone.reactions && base.body.text === "a";`},
	{"a log accepts a page with erased seqs, and never shows a hole that is not there", `
			const stored = [1, 2, 5, 6, 9].map((seq) => ({ seq, count: seq, kind: "message", from: "b", at: "", body: {} }));
			const pages = async (q) => {
				const entries = stored.filter((e) => e.seq > (q.after ?? 0));
				return { entries, first: 0, last: 0, more_before: false, more_after: false };
			};
			const log = new sdk.Log("g.x", pages);
			await log.load();
			stored.push({ ...stored[0], seq: 12 });
			log.receive(stored[5]);
			log.receive(stored[5]);
			await new Promise((done) => setTimeout(done, 50));
			return String(log.entries().map((e) => e.seq)) === "1,2,5,6,9,12";`},
	{"a log steps over what retention has erased, both ways", `
			const seqs = [1, 2, 300, 301, 302, 900];
			const pages = async (q) => {
				const last = q.before ? q.before - 1 : q.after !== undefined ? q.after + q.limit : 302;
				const first = q.after !== undefined ? q.after + 1 : last - q.limit + 1;
				const entries = seqs.filter((s) => s >= first && s <= last).map((seq) => ({ seq, count: seq, kind: "message", from: "b", at: "", body: {} }));
				return { entries, first: 0, last: 0, more_before: first > 1, more_after: last < 900 };
			};
			const log = new sdk.Log("g.x", pages);
			await log.load();
			log.expect(900);
			while (await log.older());
			await new Promise((done) => setTimeout(done, 50));
			return String(log.entries().map((e) => e.seq)) === "1,2,300,301,302,900";`},
	{"an outbox keeps order, survives, and looks in history when the window has closed", `
			const storage = new sdk.MemoryStorage();
			const calls = [];
			let online = false, found;
			const line = { online: () => online, now: () => Date.now(), find: async () => found,
				call: async (name, data) => {
					calls.push(data);
					if (data.body.text === "old" && calls.length === 1) throw new sdk.CallError("retry_window_expired");
					return { conversation: "g.x", seq: calls.length, count: 1, at: "" };
				} };
			new sdk.Outbox(storage, "ada", line).add("send.post", "g.x", { body: { text: "old" } });
			new sdk.Outbox(storage, "ada", line).add("send.post", "g.x", { body: { text: "new" } });
			online = true;
			const box = new sdk.Outbox(storage, "ada", line);
			const kept = box.pending("g.x").map((i) => i.client_id);
			box.resume();
			while (box.size) await new Promise((done) => setTimeout(done, 5));
			const texts = calls.map((c) => c.body.text).sort().join();
			const renewed = calls[0].client_id === kept[0] && !calls.slice(1).some((c) => c.client_id === kept[0]);
			calls.length = 0;
			found = { conversation: "g.x", seq: 9, count: 9, at: "" };
			let sent = 0;
			box.on("sent", ({ stored }) => (sent = stored.seq));
			box.add("send.post", "g.x", { body: { text: "old" } });
			while (box.size) await new Promise((done) => setTimeout(done, 5));
			return texts === "new,old,old" && renewed && sent === 9 && calls.length === 1 && storage.keys("").length === 0;`},
	{"two pages do not spend one refresh token twice", `
			const storage = new sdk.MemoryStorage();
			let queue = Promise.resolve(), spent = [];
			const lock = (name, fn) => (queue = queue.then(fn));
			const call = async (name, data) => (spent.push(data.refresh_token), { token: "t2", refresh_token: "r2" });
			const one = new sdk.Credentials(storage, lock), two = new sdk.Credentials(storage, lock);
			one.save({ token: "t1", refresh_token: "r1", user: "ada" });
			await Promise.all([one.refresh(call, "t1", 0), two.refresh(call, "t1", 0)]);
			return String(spent) === "r1" && two.load().token === "t2" && two.load().user === "ada";`},
}
