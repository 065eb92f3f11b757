mod tools;

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::testing::{Client, Fake};

const SHOVEL: &str = r#"{"value":{"src-uri":"amqp://","dest-uri":"amqp://"}}"#;

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_queue_tells_its_leader_members_and_counts() {
    let reply = Client::of("guest").get("/api/queues/%2F/hello").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    for (key, value) in [
        ("name", json!("hello")),
        ("vhost", json!("/")),
        ("type", json!("classic")),
        ("durable", json!(true)),
        ("auto_delete", json!(false)),
        ("exclusive", json!(false)),
        ("arguments", json!({})),
        ("state", json!("running")),
        ("node", json!("warren@a")),
        ("leader", json!("warren@a")),
        ("members", json!(["warren@a", "warren@b"])),
        ("online", json!(["warren@a", "warren@b"])),
        ("messages", json!(4)),
        ("messages_ready", json!(3)),
        ("messages_unacknowledged", json!(1)),
        ("messages_delayed", json!(5)),
        ("consumers", json!(2)),
    ] {
        assert_eq!(reply.body[key], value, "{key}");
    }
}

#[tokio::test]
async fn a_queue_whose_leader_is_silent_has_no_counts() {
    let reply = Client::of("guest").get("/api/queues/%2F/orphan").await;
    assert_eq!((&reply.body["state"], &reply.body["leader"]), (&json!("minority"), &Value::Null));
    assert!(reply.body.get("messages").is_none() && reply.body.get("consumers").is_none(), "{}", reply.body);
}

#[tokio::test]
async fn listings_of_queues_are_by_vhost_and_tolerate_a_slash() {
    let client = Client::of("guest");
    assert_eq!(names(&client.get("/api/queues").await.body), ["hello", "orphan", "theirs"]);
    assert_eq!(names(&client.get("/api/queues/").await.body), ["hello", "orphan", "theirs"]);
    assert_eq!(names(&client.get("/api/queues/%2F").await.body), ["hello", "orphan"]);
    assert_eq!(names(&client.get("/api/queues/other/").await.body), ["theirs"]);
    assert_eq!(client.get("/api/queues/nowhere").await.status, 404);
    assert_eq!(client.get("/api/queues//").await.status, 404);
    let page = client.get("/api/queues?page=1&page_size=2&columns=name&name=H").await.body;
    assert_eq!(page["items"], json!([{ "name": "hello" }, { "name": "orphan" }]));
    assert_eq!((&page["total_count"], &page["page_count"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn a_login_fails_in_rabbitmqs_three_ways() {
    let nobody = Client::new(Fake::default()).get("/api/overview").await;
    assert_eq!((nobody.status.as_u16(), &nobody.body), (401, &Value::Null));
    assert_eq!(nobody.headers[header::WWW_AUTHENTICATE], "Basic realm=\"RabbitMQ Management\"");

    for header in ["Basic Z3Vlc3Q6d3Jvbmc=", "Basic !!!", "Bearer token", "Basic", "Basic Z3Vlc3Q="] {
        let wrong = Client::new(Fake::default()).with_authorization(header).get("/api/overview").await;
        assert_eq!(wrong.status, 401, "{header}");
        assert_eq!(wrong.body, json!({ "error": "not_authorized", "reason": "Login failed" }), "{header}");
        assert!(wrong.headers.contains_key(header::WWW_AUTHENTICATE), "{header}");
    }

    let untagged = Client::of("bob").get("/api/overview").await;
    assert_eq!(untagged.status, 401);
    assert_eq!(untagged.body, json!({ "error": "not_authorised", "reason": "Not management user" }));
}

#[tokio::test]
async fn guest_comes_from_this_machine_only() {
    for (peer, status) in [
        ("127.0.0.1", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("10.0.0.7", 401),
        ("::ffff:10.0.0.7", 401),
    ] {
        assert_eq!(Client::of("guest").from(peer).get("/api/whoami").await.status, status, "{peer}");
    }
    let refused = Client::of("guest").from("10.0.0.7").get("/api/whoami").await;
    assert_eq!(refused.body["reason"], "User can only log in via localhost");
    assert_eq!(Client::of("ann").from("10.0.0.7").get("/api/whoami").await.status, 200);
}

#[tokio::test]
async fn tags_decide_what_is_seen() {
    let (ann, mon) = (Client::of("ann"), Client::of("mon"));
    assert_eq!(ann.get("/api/whoami").await.body, json!({ "name": "ann", "tags": ["management"] }));
    assert_eq!(names(&ann.get("/api/queues").await.body), ["hello", "orphan"]);
    assert_eq!(
        ann.get("/api/queues/other").await.body["reason"],
        "User not authorised to access virtual host"
    );
    assert_eq!(ann.get("/api/nodes").await.body["reason"], "Not monitor user");
    assert_eq!(ann.get("/api/users").await.body["reason"], "Not administrator user");
    let hers = ann.get("/api/connections").await.body;
    assert_eq!((hers.as_array().unwrap().len(), &hers[0]["user"]), (1, &json!("ann")));
    assert_eq!(names(&ann.get("/api/vhosts").await.body), ["/"]);
    assert_eq!(names(&mon.get("/api/vhosts").await.body), ["/", "other"]);
    assert_eq!(mon.get("/api/queues").await.body, json!([]));
    assert_eq!(names(&mon.get("/api/nodes").await.body), ["warren@a", "warren@b"]);
    assert_eq!(mon.get("/api/connections").await.body[0]["user_provided_name"], "tests");
    assert_eq!(mon.get("/api/permissions").await.status, 401);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_a_wrong_method_405() {
    let client = Client::of("guest");
    for path in [
        "/",
        "/api",
        "/api/nothing",
        "/api/queues/%2F/none",
        "/api/exchanges/%2F/none",
        "/api/nodes/none",
        "/api/users/none",
        "/api/vhosts/none",
        "/api/permissions/%2F/mon",
        "/api/queues/%2F/none/bindings",
        "/api/connections/none",
        "/api/users/none/permissions",
    ] {
        let reply = client.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.body, json!({ "error": "Object Not Found", "reason": "Not Found" }), "{path}");
    }
    for (method, path, allow) in [
        ("DELETE", "/api/overview", "HEAD, GET, OPTIONS"),
        ("POST", "/api/queues/%2F/hello", "HEAD, GET, PUT, DELETE, OPTIONS"),
        ("GET", "/api/queues/%2F/hello/contents", "DELETE, OPTIONS"),
        ("BREW", "/api/nodes", "HEAD, GET, OPTIONS"),
    ] {
        let reply = client.send(method, path, "").await;
        assert_eq!(
            (reply.status.as_u16(), &reply.headers[header::ALLOW]),
            (405, &allow.parse().unwrap()),
            "{method} {path}"
        );
    }
    let options = Client::new(Fake::default()).send("OPTIONS", "/api/queues", "").await;
    assert_eq!(
        (options.status.as_u16(), options.headers[header::ALLOW].to_str().unwrap()),
        (200, "HEAD, GET, OPTIONS")
    );
    assert_eq!(client.send("HEAD", "/api/queues/%2F/hello", "").await.status, 200);
    assert_eq!(client.get("/api/queues/%zz").await.status, 400);
}

#[tokio::test]
async fn a_queue_is_declared_with_defaults_and_arguments() {
    let client = Client::of("guest");
    let body = r#"{"durable":true,"auto_delete":true,"arguments":{"x-max-length":5,"x-queue-type":"quorum"},"node":"ignored"}"#;
    assert_eq!(client.send("PUT", "/api/queues/%2F/a%2Fb", body).await.status, 201);
    assert_eq!(client.send("PUT", "/api/queues/%2F/plain", "").await.status, 201);
    assert_eq!(
        client.changes(),
        [
            r#"declare / a/b durable=true auto_delete=true {"x-max-length":5,"x-queue-type":"quorum"}"#,
            "declare / plain durable=false auto_delete=false {}",
        ]
    );
}

#[tokio::test]
async fn a_refused_declare_says_why() {
    let client = Client::of("guest");
    let conflict = client.send("PUT", "/api/queues/%2F/hello", r#"{"durable":false}"#).await;
    assert_eq!((conflict.status.as_u16(), &conflict.body["error"]), (400, &json!("bad_request")));
    assert!(
        conflict.body["reason"].as_str().unwrap().starts_with("inequivalent arg 'durable'"),
        "{}",
        conflict.body
    );
    let slow = client.send("PUT", "/api/queues/%2F/slow", "{}").await;
    assert_eq!((slow.status.as_u16(), &slow.body["reason"]), (503, &json!("no leader")));
    let nowhere = client.send("PUT", "/api/queues/nowhere/q", "{}").await;
    assert_eq!(
        (nowhere.status.as_u16(), nowhere.body),
        (404, json!({ "error": "not_found", "reason": "vhost_not_found" }))
    );
    for body in ["not json", "[]", "7", r#"{"durable":7}"#, r#"{"arguments":"x"}"#] {
        assert_eq!(client.send("PUT", "/api/queues/%2F/q", body).await.status, 400, "{body}");
    }
    let huge = "x".repeat(2 * 1024 * 1024);
    assert_eq!(client.send("PUT", "/api/queues/%2F/q", huge).await.status, 400);
    let long = format!("/api/queues/%2F/{}", "q".repeat(256));
    assert_eq!(client.send("PUT", &long, "{}").await.status, 400);
}

#[tokio::test]
async fn a_queue_is_deleted_and_purged_only_where_it_is() {
    let client = Client::of("guest");
    assert_eq!(client.send("DELETE", "/api/queues/%2F/hello?if-empty=true", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/queues/%2F/hello/contents", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/queues/%2F/none", "").await.status, 404);
    assert_eq!(client.send("DELETE", "/api/queues/%2F/none/contents", "").await.status, 404);
    assert_eq!(client.changes(), ["delete / hello if_unused=false if_empty=true", "purge / hello"]);
}

#[tokio::test]
async fn permissions_bound_what_a_user_without_the_administrator_tag_may_change() {
    let ann = Client::of("ann");
    assert_eq!(ann.send("PUT", "/api/queues/%2F/ann.q", "{}").await.status, 201);
    for (method, path) in [
        ("PUT", "/api/queues/%2F/q"),
        ("PUT", "/api/queues/other/ann.q"),
        ("DELETE", "/api/queues/%2F/hello"),
        ("DELETE", "/api/queues/%2F/hello/contents"),
        ("PUT", "/api/vhosts/v"),
        ("DELETE", "/api/vhosts/other"),
        ("PUT", "/api/users/ann"),
        ("DELETE", "/api/users/guest"),
        ("PUT", "/api/permissions/%2F/ann"),
        ("DELETE", "/api/permissions/%2F/guest"),
        ("DELETE", "/api/connections/127.0.0.1:4000%20-%3E%20127.0.0.1:5672"),
    ] {
        assert_eq!(
            ann.send(method, path, r#"{"tags":"","configure":"","write":"","read":""}"#).await.status,
            401,
            "{method} {path}"
        );
    }
    assert_eq!(ann.changes(), ["declare / ann.q durable=false auto_delete=false {}"]);
}

#[tokio::test]
async fn vhosts_are_made_and_deleted() {
    let client = Client::of("guest");
    assert_eq!(client.send("PUT", "/api/vhosts/new", "").await.status, 201);
    assert_eq!(client.send("PUT", "/api/vhosts/%2F", "{}").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/vhosts/other", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/vhosts/none", "").await.status, 404);
    assert_eq!(
        client.changes(),
        ["create vhost new for guest", "create vhost / for guest", "delete vhost other"]
    );
}

#[tokio::test]
async fn a_user_comes_with_a_password_or_a_hash_or_neither_never_both() {
    let client = Client::of("guest");
    for (body, status) in [
        (r#"{"tags":"monitoring, management","password":"p"}"#, 201),
        (
            r#"{"tags":["policymaker"],"password_hash":"aGg=","hashing_algorithm":"rabbit_password_hashing_sha256"}"#,
            201,
        ),
        (r#"{"tags":""}"#, 201),
        (r#"{"password":"p"}"#, 400),
        (r#"{"tags":"","password":"p","password_hash":"h"}"#, 400),
        (r#"{"tags":[7],"password":"p"}"#, 400),
        (r#"{"tags":"","password":7}"#, 400),
        (r#"{"tags":"","password_hash":"h","hashing_algorithm":"rabbit_password_hashing_md4"}"#, 400),
    ] {
        assert_eq!(client.send("PUT", "/api/users/eve", body).await.status, status, "{body}");
    }
    assert_eq!(
        client.changes(),
        [
            r#"put user eve Ok("p") ["monitoring", "management"]"#,
            r#"put user eve Err("aGg=") ["policymaker"]"#,
            r#"put user eve Err("") []"#,
        ]
    );
    assert_eq!(client.send("PUT", "/api/users/ann", r#"{"tags":""}"#).await.status, 204);
    assert_eq!(client.get("/api/users/guest").await.body["tags"], json!(["administrator"]));
}

#[tokio::test]
async fn permissions_need_all_three_patterns_and_both_ends() {
    let client = Client::of("guest");
    let body = r#"{"configure":"^c","write":"^w","read":"^r"}"#;
    assert_eq!(client.send("PUT", "/api/permissions/%2F/ann", body).await.status, 204);
    let missing = client.send("PUT", "/api/permissions/%2F/ann", r#"{"write":""}"#).await;
    let reason = json!("[{key_missing,configure},{key_missing,read}]");
    assert_eq!((missing.status.as_u16(), &missing.body["reason"]), (400, &reason));
    for path in ["/api/permissions/nowhere/ann", "/api/permissions/%2F/nobody"] {
        let unknown = client.send("PUT", path, body).await;
        assert_eq!(
            (unknown.status.as_u16(), &unknown.body["reason"]),
            (400, &json!("vhost_or_user_not_found")),
            "{path}"
        );
    }
    assert_eq!(client.send("DELETE", "/api/permissions/%2F/ann", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/permissions/%2F/mon", "").await.status, 404);
    assert_eq!(client.changes(), ["permit ann / ^c ^w ^r", "clear / ann"]);
    assert_eq!(client.get("/api/permissions").await.body.as_array().unwrap().len(), 3);
    assert_eq!(client.get("/api/users/ann/permissions").await.body[0]["configure"], "^ann");
}

#[tokio::test]
async fn bindings_are_listed_from_every_side() {
    let client = Client::of("guest");
    assert_eq!(client.get("/api/bindings").await.body.as_array().unwrap().len(), 2);
    assert_eq!(client.get("/api/queues/%2F/hello/bindings").await.body.as_array().unwrap().len(), 2);
    let from_logs = client.get("/api/exchanges/%2F/logs/bindings/source").await.body;
    assert_eq!(from_logs, client.get("/api/bindings/%2F/e/logs/q/hello").await.body);
    assert_eq!(
        from_logs,
        json!([{ "source": "logs", "vhost": "/", "destination": "hello", "destination_type": "queue",
            "routing_key": "a/b", "properties_key": "a%2Fb", "arguments": {} }])
    );
    assert_eq!(client.get("/api/exchanges/%2F/logs/bindings/destination").await.body, json!([]));
    assert_eq!(client.get("/api/exchanges/%2F/amq.default").await.body["name"], "");
}

#[tokio::test]
async fn the_overview_has_what_strict_clients_read() {
    let overview = Client::of("guest").get("/api/overview").await.body;
    assert_eq!(overview["queue_totals"]["messages"], 4);
    assert_eq!(
        overview["object_totals"],
        json!({ "channels": 4, "connections": 2, "consumers": 4, "exchanges": 3, "queues": 3 })
    );
    assert_eq!((&overview["node"], &overview["cluster_name"]), (&json!("warren@a"), &json!("test")));
    assert_eq!(overview["product_name"], "Warren");
    assert!(
        overview["rabbitmq_version"].as_str().unwrap().split('.').all(|part| part.parse::<u32>().is_ok())
    );
    assert!(Client::of("ann").get("/api/overview").await.body.get("node").is_none());
}

#[tokio::test]
async fn every_node_has_the_keys_without_which_strict_clients_fail() {
    let nodes = Client::of("guest").get("/api/nodes").await.body;
    for node in nodes.as_array().unwrap() {
        for key in [
            "name",
            "uptime",
            "run_queue",
            "processors",
            "os_pid",
            "fd_total",
            "proc_total",
            "mem_limit",
            "mem_alarm",
            "disk_free_limit",
            "disk_free_alarm",
            "rates_mode",
            "enabled_plugins",
            "being_drained",
            "running",
        ] {
            assert!(node.get(key).is_some(), "{key} in {node}");
        }
    }
    assert!(nodes[0]["mem_used"].as_u64().unwrap() > 0 && nodes[1]["mem_used"] == 0, "{nodes}");
}

#[tokio::test]
async fn shards_tell_their_leader_and_how_far_followers_are_behind() {
    let shards = Client::of("guest").get("/api/warren/shards").await.body;
    assert_eq!((&shards[0]["name"], &shards[0]["shard"]), (&json!("metadata"), &Value::Null));
    assert_eq!((&shards[1]["leader"], &shards[1]["lag"]), (&json!("warren@a"), &json!({ "warren@b": 7 })));
    assert_eq!((&shards[2]["shard"], &shards[2]["leader"]), (&json!(2), &Value::Null));
}

#[tokio::test]
async fn readiness_is_told_without_login_and_with_a_reason() {
    for path in
        ["/health/ready", "/api/health/checks/ready-to-serve-clients", "/api/health/checks/is-in-service/"]
    {
        let ready = Client::new(Fake::default()).get(path).await;
        assert_eq!((ready.status.as_u16(), ready.body), (200, json!({ "status": "ok" })), "{path}");
        let fake = Fake { ready: Err("no contact with a majority".to_owned()), ..Fake::default() };
        let not = Client::new(fake).get(path).await;
        assert_eq!(not.status, 503, "{path}");
        assert_eq!(not.body, json!({ "status": "failed", "reason": "no contact with a majority" }), "{path}");
        let starting = Client::of_starting_node().get(path).await;
        assert_eq!(
            (starting.status.as_u16(), &starting.body["reason"]),
            (503, &json!("the node is starting")),
            "{path}"
        );
    }
    let alarms = "/api/health/checks/alarms";
    assert_eq!(Client::new(Fake::default()).get(alarms).await.status, 401);
    assert_eq!(Client::of("ann").get(alarms).await.body, json!({ "status": "ok" }));
}

#[tokio::test]
async fn an_alarm_of_any_node_fails_the_clusters_check_and_only_that_nodes_own() {
    let other = warren_types::NodeId(0xb);
    let alarms = [(other, warren_broker::AlarmSet { memory: true, disk: true })].into();
    let mon = format!("Basic {}", STANDARD.encode("mon:mon"));
    let client = Client::new(Fake { alarms, ..Fake::default() }).with_authorization(&mon);
    let answer = client.get("/api/health/checks/alarms").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body["status"], "failed");
    assert_eq!(
        answer.body["alarms"],
        json!([
            { "node": "warren@b", "resource": "disk" },
            { "node": "warren@b", "resource": "memory" },
        ])
    );
    assert_eq!(client.get("/api/health/checks/local-alarms").await.body, json!({ "status": "ok" }));
    let nodes = client.get("/api/nodes").await.body;
    assert_eq!((&nodes[0]["disk_free_alarm"], &nodes[1]["disk_free_alarm"]), (&json!(false), &json!(true)));
    assert_eq!(nodes[1]["mem_alarm"], true);
    assert_eq!(nodes[0]["disk_free_limit"], 50_000_000);
}

#[tokio::test]
async fn a_starting_node_lives_and_refuses_everything_else() {
    let starting = Client::of_starting_node();
    assert_eq!(starting.get("/health/live").await.status, 200);
    assert_eq!(starting.get("/api/overview").await.status, 503);
    assert_eq!(starting.get("/api/nothing").await.status, 404);
}

#[tokio::test]
async fn a_connection_is_closed_with_the_given_reason() {
    let client = Client::of("guest");
    let name = "127.0.0.1:4000%20-%3E%20127.0.0.1:5672";
    let shape = client.get(&format!("/api/connections/{name}")).await.body;
    assert_eq!(
        (&shape["peer_host"], &shape["peer_port"], &shape["port"]),
        (&json!("127.0.0.1"), &json!(4000), &json!(5672))
    );
    assert_eq!(client.send("DELETE", &format!("/api/connections/{name}"), "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/connections/none", "").await.status, 404);
    assert_eq!(client.changes(), ["close 127.0.0.1:4000 -> 127.0.0.1:5672: Closed via management plugin"]);
}

#[tokio::test]
async fn exchanges_are_declared_and_deleted_over_http() {
    let client = Client::of("guest");
    let put = |path: &'static str, body: &'static str| client.send("PUT", path, body);
    assert_eq!(
        put("/api/exchanges/%2F/new", r#"{"type":"topic","durable":true,"internal":"true"}"#).await.status,
        201
    );
    assert_eq!(put("/api/exchanges/%2F/logs", "").await.status, 204);
    assert_eq!(put("/api/exchanges/%2F/amq.own", "{}").await.status, 401);
    assert_eq!(put("/api/exchanges/nowhere/x", "{}").await.body["reason"], "vhost_not_found");
    assert_eq!(client.send("DELETE", "/api/exchanges/%2F/logs?if-unused=true", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/exchanges/%2F/none", "").await.status, 404);
    assert_eq!(
        client.changes(),
        [
            "exchange / new topic durable=true auto_delete=false internal=true {}",
            "exchange / logs direct durable=false auto_delete=false internal=false {}",
            "exchange / amq.own direct durable=false auto_delete=false internal=false {}",
            "delete exchange / logs if_unused=true",
        ]
    );
    let ann = Client::of("ann");
    assert_eq!(ann.send("PUT", "/api/exchanges/%2F/theirs", "{}").await.body["reason"], "Access refused.");
    assert_eq!(ann.send("PUT", "/api/exchanges/%2F/ann1", "{}").await.status, 201);
}

#[tokio::test]
async fn bindings_are_made_found_and_removed_by_their_name() {
    let client = Client::of("guest");
    let made = client.send("POST", "/api/bindings/%2F/e/logs/q/hello", r#"{"routing_key":"a/b"}"#).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.headers[header::LOCATION], "hello/a%252Fb");
    let missing = client.send("POST", "/api/bindings/%2F/e/logs/q/none", "{}").await;
    assert_eq!(
        (missing.status.as_u16(), &missing.body["reason"]),
        (404, &json!("no queue 'none' in vhost '/'"))
    );
    for name in ["a%2Fb", "a%252Fb"] {
        let found = client.get(&format!("/api/bindings/%2F/e/logs/q/hello/{name}")).await;
        assert_eq!(found.body["properties_key"], "a%2Fb", "{name}");
    }
    assert_eq!(client.send("DELETE", "/api/bindings/%2F/e/logs/q/hello/a%252Fb", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/bindings/%2F/e/logs/q/hello/other", "").await.status, 404);
    assert_eq!(
        client.changes(),
        ["bind / logs hello queue=true a/b {}", "bind / logs none queue=true  {}", "unbind / logs hello a/b"]
    );
    // ann may not read: nothing is bound from an exchange.
    assert_eq!(Client::of("ann").send("POST", "/api/bindings/%2F/e/logs/q/hello", "{}").await.status, 401);
}

#[tokio::test]
async fn definitions_leave_out_what_is_the_brokers_own_and_come_back_in_order() {
    let client = Client::of("guest");
    assert_eq!(Client::of("mon").get("/api/definitions").await.status, 401);
    let all = client.get("/api/definitions").await.body;
    assert_eq!(names(&all["queues"]), ["hello", "orphan", "theirs"]);
    assert_eq!(all["queues"][2]["vhost"], "other");
    assert_eq!(names(&all["exchanges"]), ["logs"]);
    assert_eq!(all["bindings"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&all["users"][0]["name"], &all["users"][0]["password_hash"]),
        (&json!("ann"), &json!("hash"))
    );
    assert_eq!(names(&all["policies"]), ["limit", "theirs"]);
    assert_eq!(
        all["parameters"],
        json!([
            { "vhost": "/", "component": "operator_policy", "name": "cap", "value": { "pattern": "^h",
                "apply-to": "queues", "priority": 3, "definition": { "max-length": 5 } } },
            { "vhost": "/", "component": "shovel", "name": "move", "value": { "src-queue": "hello" } },
            { "vhost": "other", "component": "vhost-limits", "name": "limits", "value": { "max-queues": 3 } },
        ])
    );
    assert_eq!(all["global_parameters"], json!([{ "name": "cluster_tags", "value": { "a": 1 } }]));
    assert_eq!(all["topic_permissions"][0]["exchange"], "amq.topic");
    assert_eq!(all["users"][0]["limits"], json!({ "max-connections": 2 }));
    assert_eq!(
        all["vhosts"][1]["metadata"],
        json!({ "description": "the vhost other", "tags": ["t"], "default_queue_type": "quorum" })
    );
    let one = client.get("/api/definitions/%2F").await.body;
    assert_eq!(names(&one["queues"]), ["hello", "orphan"]);
    assert!(one.get("users").is_none() && one["queues"][0].get("vhost").is_none(), "{one}");

    let document = json!({
        "bindings": [{ "vhost": "/", "source": "x", "destination": "q", "destination_type": "queue",
            "routing_key": "k", "arguments": {} }],
        "queues": [{ "vhost": "/", "name": "q", "durable": true, "arguments": { "x-max-length": 3 } },
            { "vhost": "/", "name": "hello", "durable": false }, { "vhost": "/", "name": "amq.gen-1" }],
        "exchanges": [{ "vhost": "/", "name": "x", "type": "fanout" }, { "vhost": "/", "name": "logs" }],
        "permissions": [{ "user": "u", "vhost": "v", "configure": "", "write": "w", "read": "r" }],
        "policies": [{ "vhost": "/", "name": "p", "pattern": "^a", "definition": { "expires": 7 } }],
        "parameters": [{ "vhost": "/", "component": "operator_policy", "name": "o", "value": { "pattern": ".*",
            "priority": 2, "apply-to": "queues", "definition": { "max-length": 9 } } },
            { "vhost": "/", "component": "shovel", "name": "s", "value": { "src-queue": "a" } },
            { "vhost": "v", "component": "vhost-limits", "name": "limits", "value": { "max-queues": 7 } }],
        "topic_permissions": [{ "user": "u", "vhost": "v", "exchange": "amq.topic", "write": "w", "read": "r" }],
        "global_parameters": [{ "name": "cluster_name", "value": "rabbits" }],
        "vhosts": [{ "name": "v", "description": "d", "metadata": { "tags": ["x"], "default_queue_type": "quorum" } }],
        "users": [{ "name": "u", "password_hash": "c2FsdGVk", "tags": "a,b",
            "hashing_algorithm": "rabbit_password_hashing_sha512", "limits": { "max-channels": 4 } }],
    });
    assert_eq!(client.send("POST", "/api/definitions", document.to_string()).await.status, 204);
    assert_eq!(
        client.changes(),
        [
            "put user u Err(\"c2FsdGVk\") [\"a\", \"b\"]",
            "limit user u connections=None channels=Some(4)",
            "create vhost v for nobody",
            "say of v: d [\"x\"] quorum protected=false traced=false",
            "permit u v  w r",
            "exchange / x fanout durable=true auto_delete=false internal=false {}",
            "topic u v amq.topic w r",
            "parameter None  cluster_name \"rabbits\"",
            "policy / p operator=false ^a all 0 {\"expires\":7}",
            "policy / o operator=true .* queues 2 {\"max-length\":9}",
            "parameter Some(\"/\") shovel s {\"src-queue\":\"a\"}",
            "limit vhost v connections=None queues=Some(7)",
            "declare / q durable=true auto_delete=false {\"x-max-length\":3}",
            "bind / x q queue=true k {}",
        ]
    );
}

#[tokio::test]
async fn of_definitions_that_are_wrong_somewhere_nothing_is_done() {
    let client = Client::of("guest");
    for (document, reason) in [
        (json!({ "vhosts": [{ "name": "v" }], "queues": [{ "name": "q" }] }), "queues: missing: vhost"),
        (
            json!({ "parameters": [{ "vhost": "/", "component": "magic", "name": "s", "value": {} }] }),
            "Validation failed\n\ncomponent magic not found\n",
        ),
        (json!({ "topic_permissions": [{}] }), "topic_permissions: missing: user"),
        (
            json!({ "vhosts": [{ "name": "v", "default_queue_type": "huge" }] }),
            "unsupported queue type 'huge'",
        ),
        (
            json!({ "users": [{ "name": "u", "limits": { "max-dreams": 1 } }] }),
            "Unrecognised limit: max-dreams",
        ),
        (json!({ "vhosts": [{ "name": "v" }], "bindings": 3 }), "bindings must be a list of objects"),
        (
            json!({ "users": [{ "name": "u", "hashing_algorithm": "rabbit_password_hashing_md4" }] }),
            "hashing_algorithm must be rabbit_password_hashing_sha256, rabbit_password_hashing_sha512 or \
             rabbit_password_hashing_md5",
        ),
    ] {
        let reply = client.send("POST", "/api/definitions", document.to_string()).await;
        assert_eq!((reply.status.as_u16(), &reply.body["reason"]), (400, &json!(reason)), "{document}");
    }
    assert_eq!(client.send("POST", "/api/definitions", "[]").await.body["reason"], "not_json");
    assert_eq!(client.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn policies_are_made_by_policymakers_and_operators_policies_by_administrators() {
    let client = Client::of("guest");
    assert_eq!(names(&client.get("/api/policies").await.body), ["limit", "theirs"]);
    assert_eq!(names(&client.get("/api/operator-policies/%2F").await.body), ["cap"]);
    assert_eq!(
        client.get("/api/policies/%2F/limit").await.body,
        json!({ "vhost": "/", "name": "limit", "pattern": "^h", "apply-to": "queues", "priority": 3,
            "definition": { "max-length": 5 } })
    );
    let put = |path: &'static str, body: Value| client.send("PUT", path, body.to_string());
    let body = json!({ "pattern": "^a", "definition": { "expires": 7 }, "priority": -1 });
    assert_eq!(put("/api/policies/%2F/new", body.clone()).await.status, 201);
    assert_eq!(put("/api/operator-policies/%2F/cap", body.clone()).await.status, 204);
    let lacking = put("/api/policies/%2F/new", json!({ "pattern": "x" })).await;
    assert_eq!(
        (lacking.status.as_u16(), &lacking.body["reason"]),
        (400, &json!("[{key_missing,definition}]"))
    );
    let empty = put("/api/policies/%2F/new", json!({ "pattern": "x", "definition": {} })).await;
    assert_eq!(empty.body["reason"], "Validation failed\n\nno policy provided\n");
    assert_eq!(client.send("DELETE", "/api/policies/%2F/limit", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/operator-policies/%2F/limit", "").await.status, 404);
    assert_eq!(
        client.changes(),
        [
            "policy / new operator=false ^a all -1 {\"expires\":7}",
            "policy / cap operator=true ^a queues -1 {\"expires\":7}",
            "policy / new operator=false x all 0 {}",
            "delete policy / limit operator=false",
        ]
    );
    let ann = Client::of("ann");
    assert_eq!(ann.send("PUT", "/api/policies/%2F/new", body.to_string()).await.status, 401);
    assert_eq!(client.get("/api/queues/%2F/hello").await.body["policy"], "limit");
}

#[tokio::test]
async fn limits_are_listed_and_set_one_by_one() {
    let client = Client::of("guest");
    let put = |path: &'static str, body: &'static str| client.send("PUT", path, body);
    assert_eq!(
        client.get("/api/vhost-limits").await.body,
        json!([{ "vhost": "other", "value": { "max-queues": 3 } }])
    );
    assert_eq!(client.get("/api/vhost-limits/%2F").await.body, json!([]));
    assert_eq!(
        client.get("/api/user-limits").await.body,
        json!([{ "user": "ann", "value": { "max-connections": 2 } }])
    );
    assert_eq!(put("/api/vhost-limits/other/max-connections", r#"{"value":5}"#).await.status, 204);
    assert_eq!(put("/api/vhost-limits/other/max-queues", r#"{"value":-1}"#).await.status, 204);
    assert_eq!(put("/api/user-limits/ann/max-channels", r#"{"value":0}"#).await.status, 204);
    assert_eq!(client.send("DELETE", "/api/user-limits/ann/max-connections", "").await.status, 204);
    let wrong = put("/api/vhost-limits/other/max-dreams", r#"{"value":5}"#).await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.body["reason"]),
        (400, &json!("Unrecognised limit: max-dreams"))
    );
    assert_eq!(put("/api/vhost-limits/other/max-queues", "{}").await.body["reason"], "[{key_missing,value}]");
    assert_eq!(put("/api/vhost-limits/none/max-queues", r#"{"value":5}"#).await.status, 404);
    assert_eq!(put("/api/user-limits/none/max-channels", r#"{"value":5}"#).await.status, 404);
    let ann = Client::of("ann").send("PUT", "/api/vhost-limits/%2F/max-queues", r#"{"value":5}"#).await;
    assert_eq!(ann.status, 401);
    assert_eq!(
        client.changes(),
        [
            "limit vhost other connections=Some(5) queues=Some(3)",
            "limit vhost other connections=None queues=None",
            "limit user ann connections=Some(2) channels=Some(0)",
            "limit user ann connections=None channels=None",
        ]
    );
}

#[tokio::test]
async fn a_protected_vhost_is_deleted_only_after_its_protection() {
    let client = Client::of("guest");
    let refused = client.send("DELETE", "/api/vhosts/%2F", "").await;
    assert_eq!((refused.status.as_u16(), &refused.body["error"]), (412, &json!("precondition_failed")));
    assert_eq!(client.send("DELETE", "/api/vhosts/%2F/deletion/protection", "").await.status, 204);
    assert_eq!(client.send("POST", "/api/vhosts/other/deletion/protection", "").await.status, 204);
    assert_eq!(client.send("POST", "/api/vhosts/none/deletion/protection", "").await.status, 404);
    let vhost = client.get("/api/vhosts/%2F").await.body;
    assert_eq!(vhost["protected_from_deletion"], true);
    assert_eq!((&vhost["description"], &vhost["tags"]), (&json!("the vhost /"), &json!(["t"])));
    assert_eq!(vhost["default_queue_type"], "classic");
    let body = r#"{"description":"new","default_queue_type":"stream","tags":"a,b","tracing":true}"#;
    assert_eq!(client.send("PUT", "/api/vhosts/other", body).await.status, 204);
    let bad = client.send("PUT", "/api/vhosts/other", r#"{"default_queue_type":"x"}"#).await;
    assert_eq!(bad.status, 400);
    assert_eq!(
        client.changes(),
        [
            "say of /: the vhost / [\"t\"]  protected=false traced=false",
            "say of other: the vhost other [\"t\"] quorum protected=true traced=false",
            "create vhost other for guest",
            "say of other: new [\"a\", \"b\"] stream protected=false traced=true",
        ]
    );
}

#[tokio::test]
async fn topic_permissions_are_lists_even_of_one() {
    let client = Client::of("guest");
    let known =
        json!([{ "user": "ann", "vhost": "/", "exchange": "amq.topic", "write": "^a", "read": ".*" }]);
    for path in [
        "/api/topic-permissions",
        "/api/vhosts/%2F/topic-permissions",
        "/api/users/ann/topic-permissions",
        "/api/topic-permissions/%2F/ann",
        "/api/topic-permissions/%2F/ann/amq.topic",
    ] {
        assert_eq!(client.get(path).await.body, known, "{path}");
    }
    assert_eq!(client.get("/api/topic-permissions/%2F/guest").await.status, 404);
    let body = r#"{"exchange":"amq.topic","write":"w","read":"r"}"#;
    assert_eq!(client.send("PUT", "/api/topic-permissions/%2F/ann", body).await.status, 201);
    let nobody = client.send("PUT", "/api/topic-permissions/%2F/nobody", body).await;
    assert_eq!((nobody.status.as_u16(), &nobody.body["reason"]), (400, &json!("vhost_or_user_not_found")));
    assert_eq!(client.send("PUT", "/api/topic-permissions/%2F/ann", "{}").await.status, 400);
    assert_eq!(client.send("DELETE", "/api/topic-permissions/%2F/ann/amq.topic", "").await.status, 204);
    assert_eq!(client.send("DELETE", "/api/topic-permissions/%2F/ann", "").await.status, 204);
    assert_eq!(
        client.changes(),
        ["topic ann / amq.topic w r", "clear topic ann / Some(\"amq.topic\")", "clear topic ann / None"]
    );
}

#[tokio::test]
async fn parameters_are_kept_by_component_and_global_ones_by_name() {
    let client = Client::of("guest");
    let components: Vec<Value> = client.get("/api/parameters").await.body.as_array().unwrap().clone();
    let components: Vec<&str> = components.iter().map(|one| one["component"].as_str().unwrap()).collect();
    assert_eq!(components, ["operator_policy", "shovel", "vhost-limits"]);
    let shovel =
        json!({ "vhost": "/", "component": "shovel", "name": "move", "value": { "src-queue": "hello" } });
    assert_eq!(client.get("/api/parameters/shovel").await.body, json!([shovel]));
    assert_eq!(client.get("/api/parameters/shovel/other").await.body, json!([]));
    assert_eq!(client.get("/api/parameters/shovel/%2F/move").await.body, shovel);
    assert_eq!(client.get("/api/parameters/shovel/%2F/none").await.status, 404);
    let put = |path: &'static str, body: &'static str| client.send("PUT", path, body);
    assert_eq!(put("/api/parameters/shovel/%2F/s", SHOVEL).await.status, 201);
    let lacking = put("/api/parameters/shovel/%2F/s", r#"{"value":{"a":1}}"#).await;
    assert_eq!(lacking.body["reason"], "Validation failed\n\nKey \"src-uri\" not found in s\n");
    assert_eq!(
        put("/api/parameters/vhost-limits/%2F/limits", r#"{"value":{"max-queues":2}}"#).await.status,
        204
    );
    let unknown = put("/api/parameters/magic/%2F/s", r#"{"value":1}"#).await;
    assert_eq!(
        (
            unknown.status.as_u16(),
            unknown.body["reason"].as_str().unwrap().contains("component magic not found")
        ),
        (400, true)
    );
    let policy = put("/api/parameters/policy/%2F/s", r#"{"value":{}}"#).await;
    assert_eq!(policy.body["reason"], "policies may not be set using this method");
    assert_eq!(put("/api/parameters/shovel/none/s", r#"{"value":1}"#).await.status, 404);
    assert_eq!(client.send("DELETE", "/api/parameters/shovel/%2F/move", "").await.status, 204);

    assert_eq!(
        client.get("/api/global-parameters").await.body,
        json!([{ "name": "cluster_tags", "value": { "a": 1 } }])
    );
    assert_eq!(client.get("/api/global-parameters/cluster_tags").await.body["value"], json!({ "a": 1 }));
    assert_eq!(client.get("/api/global-parameters/none").await.status, 404);
    assert_eq!(put("/api/global-parameters/x", r#"{"value":[1,"a"]}"#).await.status, 201);
    assert_eq!(put("/api/cluster-name", r#"{"name":"rabbits"}"#).await.status, 204);
    assert_eq!(client.send("DELETE", "/api/global-parameters/cluster_tags", "").await.status, 204);
    assert_eq!(Client::of("ann").get("/api/parameters").await.status, 401);
    assert_eq!(
        client.changes(),
        [
            "parameter Some(\"/\") shovel s {\"dest-uri\":\"amqp://\",\"src-uri\":\"amqp://\"}",
            "limit vhost / connections=None queues=Some(2)",
            "clear parameter Some(\"/\") shovel move",
            "parameter None  x [1,\"a\"]",
            "parameter None  cluster_name \"rabbits\"",
            "clear parameter None  cluster_tags",
        ]
    );
}

#[tokio::test]
async fn messages_are_got_and_published() {
    let client = Client::of("guest");
    let get = |body: &'static str| client.send("POST", "/api/queues/%2F/hello/get", body);
    let got = get(r#"{"count":5,"ackmode":"ack_requeue_true","encoding":"auto","truncate":2}"#).await;
    assert_eq!(got.status, 200);
    let first = json!({ "payload_bytes": 8, "redelivered": false, "exchange": "", "routing_key": "hello",
        "message_count": 1, "properties": { "delivery_mode": 2, "headers": { "h": 1 } }, "payload": "hi",
        "payload_encoding": "string" });
    assert_eq!(got.body[0], first);
    assert_eq!(
        (&got.body[1]["payload"], &got.body[1]["payload_encoding"]),
        (&json!("/wA="), &json!("base64"))
    );
    let coded = get(r#"{"count":"1","ackmode":"reject_requeue_false","encoding":"base64"}"#).await;
    assert_eq!(coded.body[0]["payload"], "aGkgdGhlcmU=");
    assert_eq!(
        get("{}").await.body["reason"],
        "[{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]"
    );
    assert_eq!(get(r#"{"count":1,"ackmode":"x","encoding":"auto"}"#).await.status, 400);
    let body = r#"{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    let none = client.send("POST", "/api/queues/%2F/none/get", body).await;
    assert_eq!((none.status.as_u16(), &none.body["error"]), (404, &json!("not_found")));
    assert_eq!(none.body["reason"], "queue_not_found");
    assert_eq!(Client::of("ann").send("POST", "/api/queues/%2F/hello/get", body).await.status, 401);

    let publish =
        |exchange: &'static str, key: &'static str, payload: &'static str, encoding: &'static str| {
            let body = json!({ "properties": { "priority": 3 }, "routing_key": key, "payload": payload,
            "payload_encoding": encoding });
            let client = &client;
            async move {
                client.send("POST", &format!("/api/exchanges/%2F/{exchange}/publish"), body.to_string()).await
            }
        };
    assert_eq!(publish("amq.default", "hello", "hi", "string").await.body, json!({ "routed": true }));
    assert_eq!(publish("amq.default", "nobody", "aGk=", "base64").await.body, json!({ "routed": false }));
    let none = publish("none", "k", "", "string").await;
    assert_eq!(
        (none.status.as_u16(), &none.body),
        (404, &json!({ "error": "not_found", "reason": "exchange_not_found" }))
    );
    let broken = publish("amq.default", "k", "%", "base64").await;
    assert_eq!((broken.status.as_u16(), &broken.body["reason"]), (400, &json!(["not_base64", "%"])));
    assert_eq!(
        client.changes(),
        [
            "get / hello 5 Requeue",
            "get / hello 1 Reject",
            "publish guest /  hello {\"priority\":3} b\"hi\"",
            "publish guest /  nobody {\"priority\":3} b\"hi\"",
        ]
    );
}

#[tokio::test]
async fn clients_of_every_node_are_listed() {
    let client = Client::of("guest");
    let connections = client.get("/api/connections").await.body;
    assert_eq!((&connections[0]["node"], &connections[1]["node"]), (&json!("warren@a"), &json!("warren@b")));
    let channels = client.get("/api/channels").await.body;
    assert_eq!(channels[1]["name"], "127.0.0.1:4001 -> 127.0.0.1:5673 (1)");
    assert_eq!((&channels[0]["messages_unacknowledged"], &channels[0]["confirm"]), (&json!(2), &json!(true)));
    assert_eq!(Client::of("ann").get("/api/channels").await.body.as_array().unwrap().len(), 1);
    let name = "127.0.0.1:4001%20-%3E%20127.0.0.1:5673";
    let one = client.get(&format!("/api/channels/{name}%20(1)")).await.body;
    assert_eq!(one["consumer_details"][0]["consumer_tag"], "ctag1");
    assert_eq!(
        client.get(&format!("/api/connections/{name}/channels")).await.body.as_array().unwrap().len(),
        1
    );
    assert_eq!(client.get("/api/channels/none").await.status, 404);
    let consumers = client.get("/api/consumers").await.body;
    assert_eq!(consumers[0]["queue"], json!({ "name": "hello", "vhost": "/" }));
    assert_eq!(client.get("/api/consumers/other").await.body, json!([]));
    let of_ann = client.get("/api/connections/username/ann").await.body;
    assert_eq!((of_ann.as_array().unwrap().len(), &of_ann[0]["node"]), (1, &json!("warren@b")));
    assert_eq!(client.send("DELETE", "/api/connections/username/ann", "").await.status, 204);
    assert_eq!(client.changes(), ["close 127.0.0.1:4001 -> 127.0.0.1:5673: Closed via management plugin"]);
}

#[tokio::test]
async fn checks_of_the_cluster_say_what_is_wrong() {
    let client = Client::of("guest");
    let check = |name: &'static str| {
        let client = &client;
        async move { client.get(&format!("/api/health/checks/{name}")).await }
    };
    // The other of two nodes is down: nothing would be left, and a shard has no leader.
    let critical = check("node-is-quorum-critical").await;
    assert_eq!((critical.status.as_u16(), &critical.body["status"]), (503, &json!("failed")));
    assert_eq!(critical.body["queues"].as_array().unwrap().len(), 3);
    let leaderless = check("quorum-queues-without-elected-leaders/all-vhosts").await;
    assert_eq!(leaderless.body["queues"], json!([{ "name": "shard 2", "type": "shard" }]));
    assert_eq!(check("reached-target-cluster-size").await.body["online"], 1);
    assert_eq!(check("port-listener/5672").await.body, json!({ "status": "ok", "port": 5672 }));
    assert_eq!(check("port-listener/1").await.status, 503);
    assert_eq!(check("protocol-listener/amqp091").await.status, 200);
    assert_eq!(check("protocol-listener/mqtt").await.status, 503);
    assert_eq!(check("metadata-store/initialized").await.status, 200);
    assert_eq!(client.get("/api/auth/hash_password/x").await.body, json!({ "ok": "hash of x" }));
    assert_eq!(client.send("POST", "/api/rebalance/queues", "").await.status, 204);
}

#[tokio::test]
async fn users_are_deleted_many_at_once_and_found_without_permissions() {
    let client = Client::of("guest");
    assert_eq!(names(&client.get("/api/users/without-permissions").await.body), ["mon"]);
    let bulk = |body: &'static str| client.send("POST", "/api/users/bulk-delete", body);
    assert_eq!(bulk(r#"{"users":["ann",3]}"#).await.status, 400);
    // As in RabbitMQ one that is not there is a mistake; unlike there, nobody is deleted then.
    let gone = bulk(r#"{"users":["ann","gone","mon"]}"#).await;
    assert_eq!((gone.status.as_u16(), &gone.body["reason"]), (400, &json!(["no_such_user", "gone"])));
    assert_eq!(bulk(r#"{"users":["ann","mon"]}"#).await.status, 204);
    assert_eq!(client.changes(), ["delete user ann", "delete user mon"]);
}
