//! Limits, vhost metadata, topic permissions and parameters.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::{
    Access, Catalogue, ParameterRecord, TopicPermissionRecord, UserLimits, UserRecord, VhostLimits,
    VhostMetadata,
};
use warren_proto::catalogue::Command;
use world::*;

fn limit(max_queues: Option<u64>) -> Command {
    let limits = VhostLimits { max_queues, max_connections: None };
    Command::SetVhostLimits { vhost: "/".to_owned(), limits }
}

fn with_user(name: &str) -> Catalogue {
    let mut catalogue = world();
    let user = UserRecord { name: name.to_owned(), password_hash: String::new(), tags: Vec::new() };
    apply(&mut catalogue, Command::PutUser(user));
    catalogue
}

fn topic(user: &str, write: &str, read: &str) -> TopicPermissionRecord {
    TopicPermissionRecord {
        user: user.to_owned(),
        vhost: "/".to_owned(),
        exchange: "amq.topic".to_owned(),
        write: write.to_owned(),
        read: read.to_owned(),
    }
}

fn may(catalogue: &Catalogue, access: Access, key: &str) -> Result<(), String> {
    let allowed = catalogue.check_topic_access("u.1", "/", "amq.topic", access, key);
    allowed.map_err(|error| format!("{} {}", error.code.code(), error.text))
}

#[test]
fn a_vhost_takes_as_many_queues_as_its_limit_says_and_again_after_one_went() {
    let mut catalogue = world();
    let first = declared(&mut catalogue, queue("q1"));
    apply(&mut catalogue, limit(Some(2)));
    declared(&mut catalogue, transient("q2", 1));
    assert_eq!(
        refused(&mut catalogue, Command::DeclareQueue(queue("q3"))),
        "406 cannot declare queue 'q3': queue limit in vhost '/' (2) is reached"
    );
    // What is there may be declared again; what waits for answers was declared by nobody.
    assert!(!apply(&mut catalogue, Command::DeclareQueue(queue("q1"))).created);
    declared(&mut catalogue, exclusive("amq.rabbitmq.reply-to.abc", owner(1, 0, 1)));
    let mut catalogue = Catalogue::decode(&catalogue.encode()).unwrap();
    refused(&mut catalogue, Command::DeclareQueue(queue("q3")));
    apply(&mut catalogue, Command::DeleteQueue { queue: first });
    declared(&mut catalogue, queue("q3"));
    apply(&mut catalogue, limit(Some(0)));
    refused(&mut catalogue, Command::DeclareQueue(queue("q4")));
    apply(&mut catalogue, limit(None));
    declared(&mut catalogue, queue("q4"));
}

#[test]
fn a_protected_vhost_is_not_deleted() {
    let mut catalogue = world();
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    let metadata = VhostMetadata {
        description: "orders".to_owned(),
        tags: vec!["a".to_owned()],
        protected: true,
        ..VhostMetadata::default()
    };
    let set = |metadata: &VhostMetadata| Command::SetVhostMetadata {
        vhost: "v".to_owned(),
        metadata: metadata.clone(),
    };
    apply(&mut catalogue, set(&metadata));
    let mut catalogue = Catalogue::decode(&catalogue.encode()).unwrap();
    assert_eq!(catalogue.vhost_metadata("v"), Some(&metadata));
    assert_eq!(
        refused(&mut catalogue, Command::DeleteVhost { name: "v".to_owned() }),
        "406 Cannot delete protected virtual host 'v'"
    );
    apply(&mut catalogue, set(&VhostMetadata { protected: false, ..metadata.clone() }));
    apply(&mut catalogue, Command::DeleteVhost { name: "v".to_owned() });
    let bad = VhostMetadata { default_queue_type: "huge".to_owned(), ..metadata };
    let set = Command::SetVhostMetadata { vhost: "/".to_owned(), metadata: bad };
    assert_eq!(refused(&mut catalogue, set), "406 unsupported queue type 'huge'");
}

#[test]
fn limits_of_a_user_go_with_the_user() {
    let mut catalogue = with_user("u.1");
    let limits = UserLimits { max_connections: Some(1), max_channels: Some(0) };
    let set = |user: &str| Command::SetUserLimits { user: user.to_owned(), limits };
    apply(&mut catalogue, set("u.1"));
    assert_eq!(refused(&mut catalogue, set("nobody")), "404 no user 'nobody'");
    let mut catalogue = Catalogue::decode(&catalogue.encode()).unwrap();
    assert_eq!(catalogue.user_limits("u.1"), limits);
    apply(&mut catalogue, Command::DeleteUser { name: "u.1".to_owned() });
    assert_eq!(catalogue.user_limits("u.1"), UserLimits::default());
}

#[test]
fn topic_permissions_are_about_routing_keys_of_topic_exchanges() {
    let mut catalogue = with_user("u.1");
    assert_eq!(may(&catalogue, Access::Write, "anything"), Ok(()));
    let record = topic("u.1", r"^{username}\.", "^{vhost}$");
    apply(&mut catalogue, Command::SetTopicPermissions(record.clone()));
    let mut catalogue = Catalogue::decode(&catalogue.encode()).unwrap();
    assert_eq!(catalogue.topic_permissions().collect::<Vec<_>>(), [&record]);
    assert_eq!(may(&catalogue, Access::Write, "u.1.orders"), Ok(()));
    assert_eq!(may(&catalogue, Access::Read, "/"), Ok(()));
    assert_eq!(may(&catalogue, Access::Configure, "x"), Ok(()));
    // The name's dot is a dot.
    assert_eq!(
        may(&catalogue, Access::Write, "ux1.orders").unwrap_err(),
        "403 write access to topic 'ux1.orders' in exchange 'amq.topic' in vhost '/' refused for user 'u.1'"
    );
    assert!(may(&catalogue, Access::Read, "a").unwrap_err().starts_with("403 read access to topic 'a' in"));
    // Others, and other exchanges, are not concerned.
    catalogue.check_topic_access("guest", "/", "amq.topic", Access::Write, "a").unwrap();
    catalogue.check_topic_access("u.1", "/", "amq.direct", Access::Write, "a").unwrap();
    let clear = |exchange: Option<&str>| Command::ClearTopicPermissions {
        user: "u.1".to_owned(),
        vhost: "/".to_owned(),
        exchange: exchange.map(str::to_owned),
    };
    apply(&mut catalogue, clear(Some("other")));
    assert!(may(&catalogue, Access::Read, "a").is_err());
    apply(&mut catalogue, clear(None));
    assert_eq!(may(&catalogue, Access::Read, "a"), Ok(()));
}

#[test]
fn topic_permissions_that_make_no_sense_are_refused() {
    let mut catalogue = with_user("u.1");
    let set = |record| Command::SetTopicPermissions(record);
    assert!(refused(&mut catalogue, set(topic("u.1", "(", ""))).starts_with("406 invalid regexp '(': "));
    assert_eq!(refused(&mut catalogue, set(topic("nobody", "", ""))), "404 no user 'nobody'");
    let elsewhere = TopicPermissionRecord { vhost: "v".to_owned(), ..topic("u.1", "", "") };
    assert_eq!(refused(&mut catalogue, set(elsewhere)), "530 vhost v not found");
}

#[test]
fn parameters_are_kept_by_vhost_component_and_name_and_go_with_the_vhost() {
    let mut catalogue = world();
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    let record = |vhost: Option<&str>, value: &str| ParameterRecord {
        vhost: vhost.map(str::to_owned),
        component: if vhost.is_some() { "shovel".to_owned() } else { String::new() },
        name: "one".to_owned(),
        value: value.to_owned(),
    };
    for (of, value) in [(Some("v"), "{\"a\":1}"), (None, "7"), (Some("v"), "{\"a\":2}")] {
        apply(&mut catalogue, Command::SetParameter(record(of, value)));
    }
    let mut catalogue = Catalogue::decode(&catalogue.encode()).unwrap();
    let all: Vec<_> = catalogue.parameters().cloned().collect();
    assert_eq!(all, [record(None, "7"), record(Some("v"), "{\"a\":2}")]);
    assert_eq!(catalogue.global_parameter("one"), Some("7"));
    assert_eq!(
        refused(&mut catalogue, Command::SetParameter(record(Some("w"), "1"))),
        "530 vhost w not found"
    );
    let huge = " ".repeat(300 * 1024);
    refused(&mut catalogue, Command::SetParameter(record(None, &huge)));
    apply(&mut catalogue, Command::DeleteVhost { name: "v".to_owned() });
    assert_eq!(catalogue.parameters().count(), 1);
    let clear = Command::ClearParameter { vhost: None, component: String::new(), name: "one".to_owned() };
    apply(&mut catalogue, clear);
    assert_eq!(catalogue.parameters().count(), 0);
}
