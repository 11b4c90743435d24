//! Keys in order, equal ones as often as they entered: a tree of short sorted runs that know how many keys are below them.
//!
//! Promise: a key enters, leaves and is found by its place in O(log n), and whatever entered and left before, n keys take at most eight times
//! their 8 bytes (mostly one and a half times): runs that got short are joined with their neighbours.

/// Most keys of one run: a window that is not larger is one sorted list.
const LEAF: usize = 128;
/// A run that is shorter is joined with a neighbour if both fit into one.
const LOW_LEAF: usize = LEAF / 4;
/// Most branches of one node.
const FAN: usize = 32;
/// A node with fewer is joined.
const LOW_FAN: usize = FAN / 4;

/// The keys.
#[derive(Debug)]
pub struct Ordered {
    root: Node,
    count: usize,
}

#[derive(Debug)]
enum Node {
    /// Keys in order.
    Leaf(Vec<u64>),
    /// Branches in the order of their keys.
    Inner(Vec<Branch>),
}

/// A node with what its parent knows of it.
#[derive(Debug)]
struct Branch {
    /// The greatest key below.
    greatest: u64,
    /// How many there are.
    count: usize,
    node: Node,
}

impl Default for Ordered {
    fn default() -> Ordered {
        Ordered { root: Node::Leaf(Vec::new()), count: 0 }
    }
}

impl Ordered {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.count
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// Of none again.
    pub fn clear(&mut self) {
        self.count = 0;
        match &mut self.root {
            Node::Leaf(keys) => keys.clear(),
            inner => *inner = Node::Leaf(Vec::new()),
        }
    }
    /// A key enters.
    pub fn insert(&mut self, key: u64) {
        self.count += 1;
        if let Some(right) = self.root.insert(key) {
            let left = std::mem::replace(&mut self.root, Node::Inner(Vec::with_capacity(FAN + 1)));
            if let Node::Inner(branches) = &mut self.root {
                branches.extend([Branch::of(left), right]);
            }
        }
    }
    /// A key that entered leaves.
    pub fn remove(&mut self, key: u64) {
        if !self.root.remove(key) {
            return;
        }
        self.count -= 1;
        while let Node::Inner(branches) = &mut self.root
            && branches.len() <= 1
        {
            self.root = branches.pop().map_or(Node::Leaf(Vec::new()), |only| only.node);
        }
    }
    /// The key before which this many come.
    pub fn nth(&self, mut at: usize) -> Option<u64> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(keys) => return keys.get(at).copied(),
                Node::Inner(branches) => {
                    node = branches.iter().find_map(|branch| {
                        if at < branch.count {
                            return Some(&branch.node);
                        }
                        at -= branch.count;
                        None
                    })?;
                }
            }
        }
    }
}

impl Branch {
    fn of(node: Node) -> Branch {
        Branch { greatest: node.greatest().unwrap_or_default(), count: node.count(), node }
    }
}

impl Node {
    fn greatest(&self) -> Option<u64> {
        match self {
            Node::Leaf(keys) => keys.last().copied(),
            Node::Inner(branches) => branches.last().map(|branch| branch.greatest),
        }
    }
    fn count(&self) -> usize {
        match self {
            Node::Leaf(keys) => keys.len(),
            Node::Inner(branches) => branches.iter().map(|branch| branch.count).sum(),
        }
    }

    /// The right half of the node, if it became too large.
    fn insert(&mut self, key: u64) -> Option<Branch> {
        match self {
            Node::Leaf(keys) => {
                // Split before it grows: no run takes more room than it may have keys.
                let mut right = (keys.len() == LEAF).then(|| keys.split_off(LEAF / 2));
                let half = match &mut right {
                    Some(right) if right[0] <= key => right,
                    _ => keys,
                };
                half.insert(half.partition_point(|known| *known <= key), key);
                right.map(|keys| Branch::of(Node::Leaf(keys)))
            }
            Node::Inner(branches) => {
                let at = branches.partition_point(|branch| branch.greatest < key).min(branches.len() - 1);
                let branch = &mut branches[at];
                let right = branch.node.insert(key);
                branch.count += 1;
                branch.greatest = branch.greatest.max(key);
                if let Some(right) = right {
                    branch.count -= right.count;
                    branch.greatest = branch.node.greatest().unwrap_or(key);
                    branches.insert(at + 1, right);
                }
                (branches.len() > FAN).then(|| Branch::of(Node::Inner(branches.split_off(FAN / 2))))
            }
        }
    }

    /// Whether the key was there.
    fn remove(&mut self, key: u64) -> bool {
        match self {
            Node::Leaf(keys) => match keys.binary_search(&key) {
                Ok(at) => {
                    keys.remove(at);
                    true
                }
                Err(_) => false,
            },
            Node::Inner(branches) => {
                let at = branches.partition_point(|branch| branch.greatest < key);
                let Some(branch) = branches.get_mut(at) else { return false };
                if !branch.node.remove(key) {
                    return false;
                }
                branch.count -= 1;
                match branch.node.greatest() {
                    Some(greatest) => branch.greatest = greatest,
                    None => drop(branches.remove(at)),
                }
                join(branches, at);
                true
            }
        }
    }

    fn is_low(&self) -> bool {
        match self {
            Node::Leaf(keys) => keys.len() < LOW_LEAF,
            Node::Inner(branches) => branches.len() < LOW_FAN,
        }
    }
    /// Takes a right neighbour in, if both fit.
    fn absorb(&mut self, right: &mut Node) -> bool {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) if left.len() + right.len() <= LEAF => left.append(right),
            (Node::Inner(left), Node::Inner(right)) if left.len() + right.len() <= FAN => left.append(right),
            _ => return false,
        }
        true
    }
}

/// Joins a branch that got short with one beside it.
fn join(branches: &mut Vec<Branch>, at: usize) {
    if !branches.get(at).is_some_and(|branch| branch.node.is_low()) {
        return;
    }
    for left in [at.wrapping_sub(1), at] {
        if let [one, other, ..] = branches.get_mut(left..).unwrap_or_default()
            && one.node.absorb(&mut other.node)
        {
            (one.count, one.greatest) = (one.count + other.count, other.greatest);
            branches.remove(left + 1);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;
    use rand::rngs::StdRng;

    impl Node {
        /// Checks what parents know, and counts the room for keys.
        fn room(&self) -> usize {
            match self {
                Node::Leaf(keys) => {
                    assert!(keys.is_sorted() && keys.len() <= LEAF);
                    keys.capacity()
                }
                Node::Inner(branches) => {
                    assert!(!branches.is_empty() && branches.len() <= FAN);
                    for branch in branches {
                        assert_eq!((Some(branch.greatest), branch.count), (branch.node.greatest(), branch.node.count()));
                    }
                    branches.iter().map(|branch| branch.node.room()).sum()
                }
            }
        }
    }

    #[test]
    fn as_a_sorted_list() {
        let mut rng = StdRng::seed_from_u64(11);
        for (most, values) in [(5, 3), (300, 20), (300, u64::MAX), (9_000, 50), (9_000, u64::MAX)] {
            let (mut keys, mut sorted, mut inside) = (Ordered::default(), Vec::<u64>::new(), Vec::<u64>::new());
            for step in 0..30_000 {
                // A window that widens, slides and narrows.
                let grows = if step / 10_000 % 2 == 0 { 0.6 } else { 0.45 };
                if inside.is_empty() || (inside.len() < most && rng.random_bool(grows)) {
                    let key = rng.random_range(0..values);
                    inside.push(key);
                    keys.insert(key);
                    sorted.insert(sorted.partition_point(|k| *k < key), key);
                } else {
                    let key = inside.swap_remove(rng.random_range(0..inside.len()));
                    keys.remove(key);
                    sorted.remove(sorted.binary_search(&key).unwrap());
                }
                assert_eq!(keys.len(), sorted.len());
                for at in [0, sorted.len() / 2, rng.random_range(0..=sorted.len())] {
                    assert_eq!(keys.nth(at), sorted.get(at).copied());
                }
                if step % 1_000 == 0 {
                    assert!(keys.root.room() <= 2 * LEAF + sorted.len() * 2 * LEAF / LOW_LEAF, "{} for {}", keys.root.room(), sorted.len());
                }
            }
            inside.drain(..).for_each(|key| keys.remove(key));
            assert!(keys.is_empty() && matches!(keys.root, Node::Leaf(_)));
        }
    }

    #[test]
    fn a_key_that_is_not_there_leaves_everything_as_it_is() {
        let mut keys = Ordered::default();
        (0..1_000).for_each(|key| keys.insert(key * 2));
        keys.remove(7);
        keys.remove(5_000);
        assert_eq!((keys.len(), keys.nth(500)), (1_000, Some(1_000)));
        keys.clear();
        assert_eq!((keys.len(), keys.nth(0)), (0, None));
    }
}
