#!/usr/bin/env python3
"""Makes session.jsonl: what a small team of agents remembered and did in a day, for the demo and for tests.

    examples/data/generate-session.py > examples/data/session.jsonl

One JSON object a line: type, agent, session, priority, and optionally tags, parent (the number of the earlier line that
caused this one) and body. The bodies have the members that spool.h documents for their types. No body: an empty event.

Every conversation is a generator that yields its events; they are interleaved as if they ran at the same time. The same
seed gives the same bytes on every Python 3: only random.random() is used, whose sequence Python guarantees.
"""
import json
import random
import sys

SEED = 20261121
CONVERSATIONS = 48
LARGE = 100 * 1024

rng = random.Random(SEED)


def below(n):
    return int(rng.random() * n)


def pick(items):
    return items[below(len(items))]


def chance(p):
    return rng.random() < p


# What people say, in the scripts they write: CJK, right to left, combining marks, emoji with joiners and skin tones.
REQUESTS = [
    ("en", "My invoice for March was charged twice. Can you find out why and refund one of them?"),
    ("en", "The nightly export has been empty since Tuesday, and nobody changed anything (we think) 🤔"),
    ("de", "Können Sie bitte prüfen, warum die Überweisung über 1.250,00 € zurückgegangen ist?"),
    ("fr", "Le tableau de bord n’affiche plus les données d’hier — est-ce normal ?"),
    ("zh", "请帮我查一下订单 20261103-7781 的物流状态,已经五天没有更新了。"),
    ("ja", "请求書のPDFが文字化けしています。「株式会社」が「□□□□」になります。確認をお願いします🙇‍♀️"),
    ("ko", "결제는 되었는데 주문 내역에 보이지 않습니다. 확인 부탁드립니다."),
    ("ar", "مرحبا، لم أستلم رسالة التأكيد بعد (رقم الطلب: 48‎-1193). هل يمكنكم المساعدة؟"),
    ("he", "שלום, החשבון שלי ננעל אחרי שלוש ניסיונות. איך פותחים אותו?"),
    ("hi", "मेरा खाता बंद क्यों है? कृपया जाँच करें और बताएँ।"),
    ("vi", "Cho tôi hỏi: vì sao đơn hàng của tôi bị hủy? Tie\u0302\u0301ng Vie\u0323\u0302t có dấu tổ hợp."),
    ("el", "Η εφαρμογή κλείνει μόνη της όταν ανοίγω τις ρυθμίσεις."),
    ("en", "zalgo test pls: e\u0301\u0323\u0308a\u030a\u0327 and a family 👩‍👩‍👧‍👦, a wave 👋🏽, a flag 🇺🇳, maths 𝔸ℝ𝕏"),
]
REPLIES = [
    "I have found the cause and am checking the fix against last week's data.",
    "Thanks for your patience. It is a known effect of the migration; I am correcting your record now.",
    "Danke, das habe ich gefunden. Ich buche den Betrag zurück ✅",
    "已经联系承运商,预计明天更新。给您带来不便,非常抱歉。",
    "تم إرسال الرسالة مرة أخرى. شكرًا لصبركم.",
    "Done. I wrote down what happened so that it will not need asking again. 🎉",
]
TOOLS = ["search_orders", "read_ledger", "query_logs", "send_mail", "open_ticket", "fetch_document", "run_tests"]
MODELS = [("large-4", 3.0, 15.0), ("medium-4", 0.8, 4.0), ("small-4", 0.1, 0.4)]
LESSONS = [
    "The export job skips rows whose time zone is missing; ask for the zone before looking at the data.",
    "Refunds above 500 EUR need a second approval: plan for the wait.",
    "Carrier status lags by up to 36 hours on weekends.",
    "A locked account is unlocked by the identity team only; delegate at once instead of retrying.",
    "PDF fonts without CJK glyphs render as boxes; embed Noto Sans CJK (「株式会社」).",
]
ERRORS = [
    ("the model is overloaded", "rate_limit", True),
    ("connection reset by peer while reading the ledger", "network", True),
    ("tool answered with HTTP 502: <html>Bad Gateway</html>", "tool", True),
    ("the document is encrypted", "tool", False),
    ("context length exceeded: 131072 + 4096 > 131072", "model", False),
    ("no such order: \"20261103-7781\"\t(tab, quote and backslash \\ in a message)", "not_found", False),
]
STEPS = ["look up the customer", "read the ledger", "compare with the log", "draft an answer", "have it reviewed",
         "apply the correction", "tell the customer", "write down what was learned"]


class Conversation:
    """One conversation: who takes part, and the numbers of lines that later events refer to."""

    def __init__(self, number):
        self.session = f"case-{number:03d}"
        self.front = f"support-{number % 5}"
        self.turn = 0
        self.line = None  # of the event yielded last; filled in by interleave()

    def event(self, kind, agent, priority="medium", body=None, parent=None, tags=None):
        event = {"type": kind, "agent": agent, "session": self.session, "priority": priority}
        if tags:
            event["tags"] = tags
        if parent:
            event["parent"] = parent
        if body is not None:
            event["body"] = body
        return event

    # Each part below yields events; `parent = self.line` after a yield is the line that the event got.

    def user_says(self, text, language):
        self.turn += 1
        yield self.event("log.user_interaction", self.front, "high", tags=[f"lang:{language}"], body={
            "role": "user", "content": text, "channel": pick(["chat", "mail", "voice"]), "latency_ms": 40 + below(900)})
        said = self.line
        yield self.event("memory.interaction", self.front, parent=said,
                         body={"role": "user", "content": text, "turn": self.turn})

    def reply(self, agent, parent):
        self.turn += 1
        text = pick(REPLIES)
        yield self.event("memory.interaction", agent, parent=parent, body={
            "role": "assistant", "content": text, "turn": self.turn, "in_reply_to": self.turn - 1})
        yield self.event("log.user_interaction", agent, "high", parent=self.line, body={
            "role": "assistant", "content": text, "channel": "chat", "latency_ms": 300 + below(5000)})

    def think(self, agent, parent):
        model, price_in, price_out = pick(MODELS)
        tokens_in, tokens_out = 200 + below(12000), 5 + below(1800)
        yield self.event("log.llm_call", agent, parent=parent, tags=["model:" + model], body={
            "model": model, "input_tokens": tokens_in, "output_tokens": tokens_out,
            "cost_usd": round((tokens_in * price_in + tokens_out * price_out) / 1e6, 6),
            "latency_ms": 180 + below(9000)})
        if chance(0.25):
            yield self.event("log.performance_metrics", agent, "low", parent=self.line, body={
                "metric": "llm.time_to_first_token", "value": 80 + below(700), "unit": "ms", "labels": {"model": model}})

    def fail(self, agent, parent):
        message, kind, retryable = pick(ERRORS)
        body = {"message": message, "kind": kind, "where": pick(TOOLS), "retryable": retryable}
        yield self.event("log.error", agent, "high" if retryable else "critical", parent=parent, body=body)
        stack = [f"{pick(TOOLS)}.py:{10 + below(400)} in step_{n}" for n in range(2 + below(6))]
        yield self.event("memory.error", agent, "high", parent=self.line, body=dict(body, stack=stack))

    def call_tool(self, agent, parent, task):
        tool = pick(TOOLS)
        call = {"to": pick(["researcher-0", "researcher-1", "coder-0"]), "task": task, "tool": tool,
                "arguments": {"query": task, "limit": 10 + below(90), "since": f"2026-11-{1 + below(20):02d}T00:00:00Z"}}
        yield self.event("log.agent_delegation", agent, parent=parent, body=call)
        called = self.line
        yield from self.think(call["to"], called)
        if chance(0.2):
            yield from self.fail(call["to"], called)
        rows = [{"id": f"{below(1 << 32):08x}", "amount": below(200000) / 100, "ok": chance(0.9), "note": None}
                for _ in range(1 + below(4))]
        yield self.event("log.agent_delegation", call["to"], parent=called,
                         body=dict(call, to=agent, result={"rows": rows}))

    def plan(self, agent, parent, goal, revision, steps):
        yield self.event("memory.plan", agent, "high" if revision > 1 else "medium", parent=parent, body={
            "plan": [{"step": n + 1, "do": step, "status": "open"} for n, step in enumerate(steps)],
            "goal": goal, "revision": revision, "status": "active"})

    def work(self, agent, parent, goal, steps):
        """Takes the steps one after the other; an obstacle revises a belief and the plan."""
        revision = 1
        for n, step in enumerate(steps):
            yield from self.call_tool(agent, parent, step)
            if chance(0.3):
                revision += 1
                confidence = (1 + below(98)) / 100
                yield self.event("memory.belief", agent, parent=self.line, body={
                    "statement": f"\"{step}\" is not what holds this up", "confidence": confidence,
                    "evidence": [self.line], "revises": f"revision {revision - 1}"})
                yield from self.plan(agent, self.line, goal, revision, steps[n + 1:] or [step])
            yield self.event("memory.goal", agent, "low", parent=parent, body={
                "goal": goal, "status": "active", "progress": round((n + 1) / len(steps), 2)})

    def attachment(self, agent, parent):
        """A whole document in one event: 100 KB of log lines or of text in several scripts."""
        line = pick(["2026-11-20T03:14:15Z export[4711]: row skipped: no time zone\n", "日本語の文書。改行も引用「」も含む。\n",
                     "مستند طويل من اليمين إلى اليسار.\n", "👩‍🔬 lab note: e\u0301 stays two code points\n"])
        text = line * (LARGE // len(line.encode()) + 1)
        yield self.event("memory.context", agent, "low", parent=parent, tags=["attachment"],
                         body={"key": "document", "value": text, "scope": self.session})

    def housekeeping(self, agent, parent):
        """What an agent notes about itself, some of it without a body."""
        yield self.event("memory.system_state", agent, "low", parent=parent, body={
            "component": pick(["vector_index", "mail_gateway", "ledger"]), "state": pick(["ready", "degraded"]),
            "previous": "starting", "cause": None})
        yield self.event("memory.performance", agent, "low", body={
            "metric": "steps_per_minute", "value": below(600) / 10, "unit": "1/min", "window_ms": 60000, "baseline": 21.5})
        yield self.event("log.context", agent, "low", body={
            "key": "prompt_version", "value": {"major": 3, "minor": below(20), "flags": [True, False, None], "pi": 3.14}})
        if chance(0.5):
            yield self.event(pick(["agent.heartbeat", "log.context"]), agent, "low")

    def run(self, number):
        language, request = REQUESTS[number % len(REQUESTS)]
        goal = f"resolve {self.session}"
        yield from self.user_says(request, language)
        asked = self.line
        yield self.event("memory.goal", "planner-0", parent=asked, body={
            "goal": goal, "status": "new", "progress": 0, "deadline": "2026-11-22T18:00:00Z"})
        yield self.event("memory.context", self.front, body={
            "key": "language", "value": language, "scope": "session", "expires_at": "2026-12-21T00:00:00Z"})
        yield from self.think("planner-0", asked)
        steps = [STEPS[n] for n in range(len(STEPS)) if chance(0.8)] or STEPS[:1]
        yield from self.plan("planner-0", asked, goal, 1, steps)
        planned = self.line
        if number % 5 == 0:
            yield from self.attachment(self.front, asked)
        yield from self.work(f"worker-{number % 3}", planned, goal, steps)
        yield from self.housekeeping(self.front, planned)
        yield from self.reply(self.front, asked)
        yield from self.user_says(pick(["Thanks! 🙏", "谢谢!", "شكرا", "Vielen Dank!", ""]), language)
        yield self.event("memory.learning", "planner-0", "low", parent=planned, tags=["reflection"], body={
            "lesson": pick(LESSONS), "evidence": [asked, planned], "confidence": (50 + below(50)) / 100, "source": goal})
        yield self.event("memory.goal", "planner-0", parent=asked, body={"goal": goal, "status": "done", "progress": 1.0})


def interleave(conversations):
    """Takes the next event of a random conversation, a few of which run at the same time, until all have ended."""
    waiting = [(c, c.run(n)) for n, c in enumerate(conversations)]
    running, line = [], 0
    while waiting or running:
        while waiting and len(running) < 8:
            running.append(waiting.pop(0))
        chosen = pick(running)
        event = next(chosen[1], None)
        if event is None:
            running.remove(chosen)
            continue
        line += 1
        yield line, event
        chosen[0].line = line


def main():
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for line, event in interleave([Conversation(n) for n in range(CONVERSATIONS)]):
        # Some as pure ASCII and some with spaces, as different programs write JSON: the bytes of a body are its own.
        print(json.dumps(event, ensure_ascii=line % 7 == 0, separators=(", ", ": ") if line % 11 == 0 else (",", ":")))


if __name__ == "__main__":
    main()
