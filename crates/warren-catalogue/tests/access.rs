//! Passwords, virtual hosts and permissions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::{Access, AuthError, Catalogue, PermissionRecord, Resource, UserRecord, hash_password};
use warren_proto::catalogue::Command;
use world::*;

fn with_permissions(configure: &str, write: &str, read: &str) -> Catalogue {
    let mut catalogue = world();
    let user = UserRecord {
        name: "u".to_owned(),
        password_hash: hash_password([9, 8, 7, 6], "pässword".as_bytes()),
        tags: Vec::new(),
    };
    apply(&mut catalogue, Command::PutUser(user));
    apply(
        &mut catalogue,
        Command::SetPermissions(PermissionRecord {
            user: "u".to_owned(),
            vhost: "/".to_owned(),
            configure: configure.to_owned(),
            write: write.to_owned(),
            read: read.to_owned(),
        }),
    );
    catalogue
}

fn allowed(catalogue: &Catalogue, access: Access, resource: Resource<'_>) -> bool {
    catalogue.check_access("u", "/", access, resource).is_ok()
}

#[test]
fn patterns_are_searched_for_and_an_empty_one_matches_nothing() {
    let catalogue = with_permissions("^app-", "mid", "");
    for (name, configure, write) in
        [("app-1", true, false), ("my-app-1", false, false), ("amidst", false, true), ("", false, false)]
    {
        let queue = Resource::Queue(name);
        assert_eq!(allowed(&catalogue, Access::Configure, queue), configure, "configure {name}");
        assert_eq!(allowed(&catalogue, Access::Write, queue), write, "write {name}");
        assert!(!allowed(&catalogue, Access::Read, queue), "read {name}");
    }
    let everything = with_permissions(".*", "^.*$", "");
    assert!(allowed(&everything, Access::Configure, Resource::Queue("any\nthing")));
}

#[test]
fn the_default_exchange_is_known_to_permissions_by_a_name() {
    let catalogue = with_permissions("", r"^amq\.default$", "");
    assert!(allowed(&catalogue, Access::Write, Resource::Exchange("")));
    assert!(!allowed(&catalogue, Access::Write, Resource::Queue("")));
}

#[test]
fn a_refusal_says_what_was_wanted_of_what() {
    let catalogue = with_permissions("", "", "");
    let text = |access, resource| {
        let error = catalogue.check_access("u", "/", access, resource).unwrap_err();
        assert_eq!(error.code.code(), 403);
        error.text
    };
    assert_eq!(
        text(Access::Write, Resource::Exchange("")),
        "write access to exchange 'amq.default' in vhost '/' refused for user 'u'"
    );
    assert_eq!(
        text(Access::Read, Resource::Queue("q")),
        "read access to queue 'q' in vhost '/' refused for user 'u'"
    );
    assert_eq!(
        text(Access::Configure, Resource::Exchange("x")),
        "configure access to exchange 'x' in vhost '/' refused for user 'u'"
    );
}

#[test]
fn nobody_has_access_without_a_permission() {
    let mut catalogue = with_permissions(".*", ".*", ".*");
    apply(&mut catalogue, Command::ClearPermissions { user: "u".to_owned(), vhost: "/".to_owned() });
    assert!(!allowed(&catalogue, Access::Read, Resource::Queue("q")));
    assert!(catalogue.check_access("nobody", "/", Access::Read, Resource::Queue("q")).is_err());
    assert!(catalogue.check_access("guest", "gone", Access::Read, Resource::Queue("q")).is_err());
}

#[test]
fn a_connection_is_opened_only_to_a_vhost_with_a_permission() {
    let mut catalogue = with_permissions("", "", "");
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    let text = |vhost| {
        let error = catalogue.vhost_access("u", vhost).unwrap_err();
        format!("{} {}", error.code.code(), error.text)
    };
    assert!(catalogue.vhost_access("u", "/").is_ok());
    assert_eq!(text("gone"), "530 vhost gone not found");
    assert_eq!(text("v"), "530 access to vhost 'v' refused for user 'u'");
}

#[test]
fn a_login_needs_the_password() {
    let mut catalogue = with_permissions("", "", "");
    let name = || "u".to_owned();
    assert_eq!(catalogue.authenticate("u", "pässword".as_bytes()), Ok(()));
    assert_eq!(catalogue.authenticate("u", b"password"), Err(AuthError::WrongPassword(name())));
    assert_eq!(catalogue.authenticate("u", b""), Err(AuthError::EmptyPassword(name())));
    assert_eq!(catalogue.authenticate("v", b"x"), Err(AuthError::UnknownUser("v".to_owned())));
    let mut set = |hash: &str| {
        let user = UserRecord { name: name(), password_hash: hash.to_owned(), tags: Vec::new() };
        apply(&mut catalogue, Command::PutUser(user));
        catalogue.authenticate("u", b"x")
    };
    assert_eq!(set(""), Err(AuthError::NoPassword(name())));
    for bad in ["?", "AAAA", &hash_password([0; 4], b"x")[..40]] {
        assert_eq!(set(bad), Err(AuthError::BadHash(name())), "{bad}");
    }
}
