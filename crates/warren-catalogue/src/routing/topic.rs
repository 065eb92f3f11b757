//! `topic`: words between dots, `*` for one word, `#` for any number of them (0-9-1 §3.1.3.3). The binding keys form
//! a trie on their words; a route walks it with the message's words.

use warren_types::{AmqpError, ReplyCode};

use super::{Target, Targets};
use crate::lookup::Lookup;
use crate::names::refuse;
use crate::topology::BindingKey;

/// Most `#` in a binding key: each multiplies the ways a long routing key can match.
const HASHES_MAX: usize = 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct Topic(Node);

/// Where the words so far lead.
#[derive(Clone, Debug, Default)]
struct Node {
    /// The bindings that end here.
    targets: Targets,
    /// By the next word, if it is neither `*` nor `#`.
    words: Lookup<Box<str>, Node>,
    star: Option<Box<Node>>,
    hash: Option<Box<Node>>,
}

/// The words of a key; an empty key has none.
fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

impl Topic {
    /// # Errors
    /// 406 `Topic binding key '…' uses 3 '#' wildcards, at most 2 are allowed`.
    pub(super) fn insert(&mut self, key: &BindingKey) -> Result<(), AmqpError> {
        let words = words(&key.routing_key);
        let hashes = words.iter().filter(|word| **word == "#").count();
        if hashes > HASHES_MAX {
            return Err(refuse(
                ReplyCode::PreconditionFailed,
                format!(
                    "Topic binding key '{}' uses {hashes} '#' wildcards, at most {HASHES_MAX} are allowed",
                    key.routing_key
                ),
            ));
        }
        let end = words.into_iter().fold(&mut self.0, |node, word| match word {
            "*" => node.star.get_or_insert_default(),
            "#" => node.hash.get_or_insert_default(),
            word => node.words.or_default(word.into()),
        });
        end.targets.add(&key.target);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &BindingKey) {
        self.0.remove(&words(&key.routing_key), &key.target);
    }

    pub(super) fn visit<'a>(&'a self, routing_key: &str, found: &mut impl FnMut(&'a Target)) {
        self.0.visit(&words(routing_key), found);
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.is_leaf()
    }

    fn is_leaf(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none()
    }

    // Removes a binding below and the nodes that lead nowhere then. As deep as the key has words: 256 at most.
    fn remove(&mut self, words: &[&str], target: &Target) {
        let Some((word, rest)) = words.split_first() else {
            self.targets.remove(target);
            return;
        };
        match *word {
            "*" => remove_below(&mut self.star, rest, target),
            "#" => remove_below(&mut self.hash, rest, target),
            word => {
                if let Some(node) = self.words.get_mut(word) {
                    node.remove(rest, target);
                    if node.is_empty() {
                        self.words.remove(word);
                    }
                }
            }
        }
    }

    fn visit<'a>(&'a self, words: &[&str], found: &mut impl FnMut(&'a Target)) {
        match words.split_first() {
            None => self.targets.visit(found),
            Some((word, rest)) => {
                if let Some(node) = self.words.get(*word) {
                    node.visit(rest, found);
                }
                if let Some(star) = &self.star {
                    star.visit(rest, found);
                }
            }
        }
        if let Some(hash) = &self.hash {
            // Nothing can follow: whatever is left, it matches.
            if hash.is_leaf() {
                hash.targets.visit(found);
                return;
            }
            for skipped in 0..=words.len() {
                hash.visit(words.get(skipped..).unwrap_or_default(), found);
            }
        }
    }
}

fn remove_below(slot: &mut Option<Box<Node>>, words: &[&str], target: &Target) {
    if let Some(node) = slot {
        node.remove(words, target);
        if node.is_empty() {
            *slot = None;
        }
    }
}
