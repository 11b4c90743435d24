"""Webhooks: made, read, changed, deleted; bad addresses refused. All are disabled, so that nothing is ever sent."""

from . import scenario

# A public address that nothing is sent to: every webhook here is made DISABLED.
PLACE = "https://1.1.1.1/hook"
EVENT = {"entity": "REGISTERED_MODEL", "action": "CREATED"}


@scenario(raw=True)
def crud(cx):
    make = lambda **more: cx.post("webhooks", {"name": cx.name(), "url": PLACE, "events": [EVENT], "status": "DISABLED", **more})  # noqa: E731
    cx.step("create")
    status, answer = make(description="d", secret="s3cret")
    made = [answer["webhook"]["webhook_id"]] if status == 200 else []
    status, answer = make(
        events=[
            EVENT,
            {"entity": "MODEL_VERSION", "action": "CREATED"},
            {"entity": "MODEL_VERSION_TAG", "action": "SET"},
            {"entity": "MODEL_VERSION_TAG", "action": "DELETED"},
            {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"},
            {"entity": "MODEL_VERSION_ALIAS", "action": "DELETED"},
        ]
    )
    made += [answer["webhook"]["webhook_id"]] if status == 200 else []
    cx.step("wrong ones")
    for body in (
        {},
        {"name": "x"},
        {"name": "x", "url": PLACE},
        {"name": "x", "url": PLACE, "events": []},
        {"name": "x", "url": PLACE, "events": [{}]},
        {"name": "x", "url": PLACE, "events": [{"entity": "NOPE", "action": "CREATED"}]},
        {"name": "x", "url": PLACE, "events": [{"entity": "REGISTERED_MODEL", "action": "SET"}]},
        {"name": "x", "url": PLACE, "events": ["registered_model.created"]},
        {"name": "", "url": PLACE, "events": [EVENT], "status": "DISABLED"},
        {"name": " x", "url": PLACE, "events": [EVENT], "status": "DISABLED"},
        {"name": "x" * 64, "url": PLACE, "events": [EVENT], "status": "NOPE"},
        {"name": "x/y", "url": PLACE, "events": [EVENT], "status": "DISABLED"},
        {"name": "a" * 256, "url": PLACE, "events": [EVENT], "status": "DISABLED"},
    ):
        cx.post("webhooks", body)
    cx.step("addresses")
    for url in (
        "",
        "x",
        "http://1.1.1.1/hook",
        "ftp://1.1.1.1/",
        "file:///etc/passwd",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "https://user:pass@127.0.0.1/",
        "https://",
        "https:///x",
        "gopher://1.1.1.1/",
        "javascript:alert(1)",
    ):
        cx.step(f"url {url}")
        make(url=url)
    cx.step("read")
    for id_ in made + ["00000000-0000-0000-0000-000000000000", "none", "..%2fx"]:
        cx.get(f"webhooks/{id_}")
    cx.step("update")
    for id_ in made[:1]:
        for body in (
            {"name": cx.name("renamed")},
            {"description": "e"},
            {"events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]},
            {"url": "https://127.0.0.1/"},
            {"url": "http://1.1.1.1/"},
            {"status": "NOPE"},
            {"events": []},
            {"name": ""},
            {},
            {"secret": "other"},
        ):
            cx.raw("PATCH", f"/api/2.0/mlflow/webhooks/{id_}", body)
        cx.get(f"webhooks/{id_}")
    cx.raw("PATCH", "/api/2.0/mlflow/webhooks/none", {"name": "x"})
    cx.step("list")
    cx.get("webhooks", {"max_results": 0})
    cx.get("webhooks", {"max_results": "x"})
    cx.get("webhooks", {"max_results": 1001})
    cx.get("webhooks", {"page_token": "nonsense"})
    cx.step("test of what is not there")
    cx.raw("POST", "/api/2.0/mlflow/webhooks/none/test", {})
    cx.step("delete")
    for id_ in made + made[:1] + ["none"]:
        cx.raw("DELETE", f"/api/2.0/mlflow/webhooks/{id_}")


@scenario(since=(3, 3))
def client(cx):
    client = cx.client
    webhook = client.create_webhook(
        name=cx.name(), url=PLACE, events=["registered_model.created", "model_version_alias.created"], description="d", secret="s", status="DISABLED"
    )
    back = client.get_webhook(webhook.webhook_id)
    cx.see("back", [back.name, back.url, str(back.status), sorted(str(e) for e in back.events), back.description])
    cx.see("renamed", client.update_webhook(webhook.webhook_id, name=cx.name("n")).name)
    cx.see("listed", [w.name for w in client.list_webhooks() if cx.nonce in w.name])
    client.delete_webhook(webhook.webhook_id)
    cx.try_("gone", client.get_webhook, webhook.webhook_id)
    cx.try_("bad event", lambda: client.create_webhook(name="x", url=PLACE, events=["nope.nope"]))
