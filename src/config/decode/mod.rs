//! The tree to typed settings, by serde, with all mistakes at once.
//!
//! Serde stops at the first mistake. So a node that cannot be read is taken out of the tree and the
//! rest is read again, until nothing is left to complain of: what is missing then has its default, and
//! the mistakes have been gathered. That costs one pass a mistake; the number of passes has a bound.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::DeserializeOwned;

use crate::config::diagnostic::Position;
use crate::config::yaml::{Node, NodeId, Value};

mod fault;
mod reader;

pub use fault::BadText;
pub(in crate::config) use fault::from_text;
use reader::{Context, Reader};

/// Most mistakes that are gathered; a file with more is probably no configuration of ours.
pub(super) const MAX_MISTAKES: usize = 50;

/// A mistake at a node.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) at: Position,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// What could be read, and what could not.
pub(super) struct Decoded<T> {
    /// `None` if not even with defaults in place of all mistakes there is a value.
    pub(super) value: Option<T>,
    /// In the order they were found.
    pub(super) mistakes: Vec<Mistake>,
    /// The nodes and keys that were left out.
    pub(super) skipped: HashSet<NodeId>,
}

/// Reads `root` as a `T`, without the nodes in `skipped`.
pub(super) fn decode<T: DeserializeOwned>(
    root: &Node,
    source: &str,
    skipped: HashSet<NodeId>,
) -> Decoded<T> {
    let context = Context {
        skipped: RefCell::new(skipped),
    };
    let mut mistakes = Vec::new();
    let mut value = None;
    // Taking out a parent because of a child that is out already is no mistake but takes a pass.
    for _ in 0..MAX_MISTAKES * 3 {
        let reader = Reader {
            node: root,
            context: &context,
        };
        let fault = match T::deserialize(reader) {
            Ok(read) => {
                value = Some(read);
                break;
            }
            Err(fault) => *fault.or_at(root).0,
        };
        let Some(place) = fault.place else { break };
        if !fault.consequence {
            mistakes.push(Mistake {
                at: fault
                    .column
                    .and_then(|column| find(root, place.id)?.place_inside(source, column))
                    .unwrap_or(place.at),
                path: path_of(root, place.id),
                message: fault.message,
                hint: fault.hint,
            });
        }
        let fresh = context.skipped.borrow_mut().insert(place.id);
        if !fresh || place.id == root.id || mistakes.len() == MAX_MISTAKES {
            break;
        }
    }
    Decoded {
        value,
        mistakes,
        skipped: context.skipped.into_inner(),
    }
}

/// The node numbered `id`.
fn find(node: &Node, id: NodeId) -> Option<&Node> {
    if node.id == id {
        return Some(node);
    }
    match &node.value {
        Value::Null | Value::Scalar(_) => None,
        Value::List(list) => list.iter().find_map(|child| find(child, id)),
        Value::Map(pairs) => pairs.iter().find_map(|(_, child)| find(child, id)),
    }
}

/// How a person would name the node: `rules[2].sigma.warning`. A key is named by the mapping it stands
/// in, since messages about keys name the key.
pub(super) fn path_of(root: &Node, id: NodeId) -> String {
    fn walk(node: &Node, id: NodeId, path: &mut String) -> bool {
        if node.id == id {
            return true;
        }
        let length = path.len();
        let mut step = |segment: String, child: &Node| {
            path.push_str(&segment);
            let found = walk(child, id, path);
            if !found {
                path.truncate(length);
            }
            found
        };
        match &node.value {
            Value::Null | Value::Scalar(_) => false,
            Value::List(list) => list
                .iter()
                .enumerate()
                .any(|(at, child)| step(format!("[{at}]"), child)),
            Value::Map(pairs) => pairs.iter().any(|(key, child)| {
                if key.id == id {
                    return true;
                }
                let dot = if length == 0 { "" } else { "." };
                step(format!("{dot}{}", key.text), child)
            }),
        }
    }
    let mut path = String::new();
    walk(root, id, &mut path);
    path
}
