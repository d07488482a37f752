//! With `--demo` a pretend node can be killed and started again, to see its bots stay connected.

use super::Sources;
use super::answer::Refusal;
use crate::demo::{Close, Node};

/// Kills the pretend node of this name, or starts it again.
pub fn act(sources: &Sources, name: &str, dies: bool) -> Result<(), Refusal> {
    let nodes = sources.demo.get().ok_or_else(|| Refusal::new(404, "there are pretend nodes only with --demo"))?;
    let Some(node) = nodes.iter().find(|node| node.name() == name) else {
        let known: Vec<&str> = nodes.iter().map(Node::name).collect();
        return Err(Refusal::new(404, format!("there is no node of this name; the nodes are {}", known.join(", "))));
    };
    if dies {
        node.die(Close::Fin);
        return Ok(());
    }
    node.revive().map_err(|error| Refusal::new(503, format!("the node does not start again: {error}")))
}
