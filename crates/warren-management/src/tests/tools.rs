//! What tools of RabbitMQ's world ask, in the shapes that strict ones need.

use serde_json::{Value, json};

use crate::testing::{Client, Fake};

fn body(name: &str, password: &str) -> String {
    format!("username={name}&password={password}")
}

#[tokio::test]
async fn a_queue_tells_how_much_came_and_went_and_how_fast() {
    let client = Client::of("guest");
    let queue = client.get("/api/queues/%2F/hello").await.body;
    let stats = &queue["message_stats"];
    assert_eq!((&stats["publish"], &stats["publish_details"]), (&json!(6), &json!({ "rate": 1.0 })));
    assert_eq!((&stats["deliver_get"], &stats["deliver_get_details"]), (&json!(3), &json!({ "rate": 0.0 })));
    assert_eq!(stats["ack"], 2);
    assert_eq!(queue["messages_details"], json!({ "rate": 1.0 }));
    let columns = client.get("/api/queues/%2F?columns=name,message_stats.publish").await.body;
    assert_eq!(columns[0], json!({ "name": "hello", "message_stats": { "publish": 6 } }));
    // Its leader did not answer: nothing is known.
    assert_eq!(client.get("/api/queues/%2F/orphan").await.body.get("message_stats"), None);
}

#[tokio::test]
async fn the_overview_tells_what_publishers_did_and_who_came_and_went() {
    let overview = Client::of("guest").get("/api/overview").await.body;
    let stats = &overview["message_stats"];
    assert_eq!((&stats["publish"], &stats["publish_details"]), (&json!(9), &json!({ "rate": 1.0 })));
    assert_eq!((&stats["confirm"], &stats["disk_writes"]), (&json!(8), &json!(0)));
    assert_eq!(overview["churn_rates"]["connection_created"], 2);
    let listeners = overview["listeners"].as_array().unwrap();
    assert_eq!((&listeners[0]["protocol"], &listeners[0]["port"]), (&json!("amqp"), &json!(5672)));
    assert_eq!(overview["contexts"][0]["port"], "15672");
}

#[tokio::test]
async fn a_login_by_form_gives_what_to_send_from_then_on() {
    let client = Client::new(Fake::default());
    let reply = client.send("POST", "/api/login", body("guest", "guest")).await;
    assert_eq!(
        reply.body,
        json!({ "token": { "type": "basic", "value": "Z3Vlc3Q6Z3Vlc3Q=" },
            "user": { "name": "guest", "tags": ["administrator"] } })
    );
    for wrong in [body("guest", "wrong"), "username=guest".to_owned(), String::new()] {
        assert_eq!(client.send("POST", "/api/login", wrong.clone()).await.status, 401, "{wrong}");
    }
    assert_eq!(client.send("POST", "/api/login", body("bob", "bob")).await.status, 401, "no tag");
    assert_eq!(client.send("DELETE", "/api/login", "").await.status, 204);
}

#[tokio::test]
async fn every_part_of_a_nodes_memory_is_named() {
    let client = Client::of("guest");
    let memory = client.get("/api/nodes/warren@a/memory").await.body;
    for part in ["connection_readers", "quorum_queue_procs", "metadata_store_ets", "reserved_unallocated"] {
        assert!(memory["memory"][part].is_u64(), "{part} in {memory}");
    }
    assert!(memory["memory"]["total"]["rss"].is_u64());
    assert_eq!(client.get("/api/nodes/warren@a/memory/relative").await.body["memory"]["total"], 100);
    assert_eq!(client.get("/api/nodes/warren@b/memory").await.body["memory"], "not_available");
    assert_eq!(client.get("/api/nodes/none/memory").await.status, 404);
    assert_eq!(Client::of("ann").get("/api/nodes/warren@a/memory").await.status, 401);
}

#[tokio::test]
async fn feature_flags_are_all_on() {
    let client = Client::of("guest");
    let flags = client.get("/api/feature-flags").await.body;
    let quorum = flags.as_array().unwrap().iter().find(|flag| flag["name"] == "quorum_queue").unwrap();
    assert_eq!((&quorum["state"], &quorum["stability"]), (&json!("enabled"), &json!("required")));
    assert_eq!(client.send("PUT", "/api/feature-flags/quorum_queue/enable", "{}").await.status, 204);
    let unknown = client.send("PUT", "/api/feature-flags/magic/enable", "{}").await;
    assert_eq!((unknown.status.as_u16(), &unknown.body["reason"]), (400, &json!("unsupported")));
    let deprecated = client.get("/api/deprecated-features").await.body;
    assert_eq!(deprecated[0]["deprecation_phase"], "permitted_by_default");
    assert_eq!(client.get("/api/deprecated-features/used").await.body, json!([]));
}

#[tokio::test]
async fn a_queues_replicas_are_told_as_a_quorum_queues() {
    let client = Client::of("guest");
    let status = client.get("/api/queues/quorum/%2F/hello/status").await.body;
    assert_eq!(status.as_array().unwrap().len(), 2);
    assert_eq!((&status[0]["Node Name"], &status[0]["Raft State"]), (&json!("warren@a"), &json!("leader")));
    assert_eq!((&status[0]["Last Log Index"], &status[1]["Last Log Index"]), (&json!(10), &json!(3)));
    assert_eq!(client.get("/api/queues/quorum/%2F/none/status").await.status, 404);
    for (method, path) in [
        ("POST", "/api/queues/quorum/%2F/hello/replicas/add"),
        ("DELETE", "/api/queues/quorum/replicas/on/warren@a/shrink"),
    ] {
        let refused = client.send(method, path, "{}").await;
        assert_eq!((refused.status.as_u16(), &refused.body["error"]), (405, &json!("method_not_allowed")));
    }
}

#[tokio::test]
async fn listeners_are_asked_for_by_port_and_by_any_of_their_names() {
    let client = Client::of("guest");
    let check = |name: &'static str| {
        let client = &client;
        async move { client.get(&format!("/api/health/checks/{name}")).await }
    };
    let protocols = check("protocol-listener/amqp091,http").await;
    assert_eq!(protocols.body, json!({ "status": "ok", "protocols": ["amqp", "http"] }));
    let missing = check("protocol-listener/amqps,amqp").await;
    assert_eq!((missing.status.as_u16(), &missing.body["missing"]), (503, &json!(["amqp/ssl"])));
    let closed = check("port-listener/1").await;
    assert_eq!((&closed.body["missing"], &closed.body["ports"]), (&json!(1), &json!([5672, 15672])));
    assert_eq!(check("port-listener/x").await.body["reason"], "Invalid port");
    // No listener has a certificate.
    assert_eq!(check("certificate-expiration/1/months").await.body, json!({ "status": "ok" }));
    for (path, reason) in [
        ("certificate-expiration/x/days", "Invalid expiration value."),
        (
            "certificate-expiration/1/hours",
            "Time unit not recognised. Supported units: days, weeks, months, years.",
        ),
    ] {
        let reply = check(path).await;
        assert_eq!((reply.status.as_u16(), &reply.body["reason"]), (400, &json!(reason)));
    }
    assert_eq!(client.get("/api/aliveness-test/%2F").await.body, json!({ "status": "ok" }));
    assert_eq!(client.get("/api/aliveness-test/none").await.status, 404);
}

#[tokio::test]
async fn wrong_bodies_are_refused_in_rabbitmqs_words() {
    let client = Client::of("guest");
    let publish = "[{key_missing,routing_key},\n {key_missing,properties},\n {key_missing,payload},\n \
        {key_missing,payload_encoding}]";
    let twice =
        "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?";
    for (method, path, body, reason) in [
        ("PUT", "/api/users/u", "{}", json!("tags_not_present")),
        ("PUT", "/api/users/u", "null", json!("tags_not_present")),
        ("PUT", "/api/users/u", "\"x\"", json!(twice)),
        ("PUT", "/api/users/u", "[]", json!("not_json")),
        (
            "PUT",
            "/api/users/u",
            r#"{"tags":"","password":"p","password_hash":"aGk="}"#,
            json!("both_password_and_password_hash_are_provided"),
        ),
        ("PUT", "/api/users/u", r#"{"tags":"","password_hash":"s-!"}"#, json!(["not_base64", "s-!"])),
        ("PUT", "/api/queues/%2F/q", r#"{"durable":"maybe"}"#, json!(["not_boolean", "maybe"])),
        ("POST", "/api/exchanges/%2F/amq.default/publish", "{}", json!(publish)),
        ("POST", "/api/queues/%2F/hello/actions", "{}", json!("[{key_missing,action}]")),
        ("POST", "/api/queues/%2F/hello/actions", r#"{"action":"dance"}"#, json!(["unknown", "dance"])),
        (
            "POST",
            "/api/queues/%2F/hello/get",
            r#"{"count":"x","ackmode":"ack_requeue_true","encoding":"auto"}"#,
            json!(["not_integer", "x"]),
        ),
    ] {
        let reply = client.send(method, path, body).await;
        assert_eq!((reply.status.as_u16(), &reply.body["reason"]), (400, &reason), "{method} {path} {body}");
    }
    assert_eq!(client.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn who_takes_no_json_gets_406_and_a_wrong_method_has_no_body() {
    for (accept, status) in [
        ("text/html", 406),
        ("application/json", 200),
        ("text/html, */*;q=0.1", 200),
        ("application/*", 200),
        ("image/png,text/*", 406),
    ] {
        let reply = Client::of("guest").accepting(accept).get("/api/whoami").await;
        assert_eq!(reply.status, status, "{accept}");
    }
    let wrong = Client::of("guest").send("DELETE", "/api/overview", "").await;
    assert_eq!((wrong.status.as_u16(), wrong.body), (405, Value::Null));
}

#[tokio::test]
async fn plugins_that_are_not_there_have_nothing_to_tell() {
    let client = Client::of("guest");
    for path in ["shovels", "shovels/%2F", "federation-links", "federation-links/%2F", "stream/connections"] {
        assert_eq!(client.get(&format!("/api/{path}")).await.body, json!([]), "{path}");
    }
    assert_eq!(client.get("/api/federation-links/none").await.status, 404);
    assert_eq!(client.get("/api/auth/attempts/none").await.status, 404);
}
