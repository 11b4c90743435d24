//! LightGBM's text format, versions 3 and 4: what `Booster.save_model` writes.
//!
//! Pure: bytes in, a forest or a sentence about what is wrong out. Sizes in the file are compared with what is there before anything
//! is built from them. Not read: trees with linear leaves, and versions before 3, which LightGBM itself saves anew in a minute.

use super::forest::{Builder, FileNode, Link, Missing, Precision, Test};
use super::{Categories, Codes, ReadModel};
use gristmill_kernel::limits::{MODEL_INPUTS_MAX, MODEL_OUTPUTS_MAX};
use gristmill_kernel::model::Task;
use std::collections::HashMap;

/// Reads a model. `Err` says what is wrong with the file, as part of a sentence.
pub fn read(bytes: &[u8]) -> Result<ReadModel, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some("tree") {
        return Err("it does not begin with the line `tree`".into());
    }
    let (header, first_tree) = Section::read(&mut lines);
    let header = Header::of(&header)?;
    let mut builder = Builder::new(header.width, vec![0.0; header.outputs], Precision::Double, header.link)?;
    let mut trees = 0;
    let mut next = first_tree;
    while next == Next::Tree {
        let (tree, after) = Section::read(&mut lines);
        Tree::of(&tree)
            .and_then(|tree| builder.covered_tree(trees % header.outputs, tree.nodes(), |node| tree.node(node), |node| tree.cover(node)))
            .map_err(|why| format!("tree {trees}: {why}"))?;
        trees += 1;
        next = after;
    }
    if next != Next::EndOfTrees {
        return Err("it ends before its trees do".into());
    }
    if !trees.is_multiple_of(header.outputs) {
        return Err(format!("{trees} trees cannot be shared out among {} outputs", header.outputs));
    }
    if header.average {
        builder = builder.averaged(trees / header.outputs);
    }
    Ok(ReadModel {
        forest: builder.finish(),
        task: header.task,
        classes: header.classes,
        names: header.names,
        categories: categories(lines, header.categorical, header.perhaps_categorical),
    })
}

/// What comes behind a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Tree,
    EndOfTrees,
    End,
}

/// The lines `key=value` of the header or of one tree. A key alone on its line has an empty value.
struct Section<'a>(HashMap<&'a str, &'a str>);

impl<'a> Section<'a> {
    /// Reads up to the line that opens the next section.
    fn read(lines: &mut std::str::Lines<'a>) -> (Section<'a>, Next) {
        let mut values = HashMap::new();
        for line in lines.map(str::trim_end) {
            if line == "end of trees" {
                return (Section(values), Next::EndOfTrees);
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            if key == "Tree" {
                return (Section(values), Next::Tree);
            }
            values.insert(key, value);
        }
        (Section(values), Next::End)
    }
    fn text(&self, key: &str) -> Result<&'a str, String> {
        self.0.get(key).copied().ok_or_else(|| format!("`{key}` is missing"))
    }
    fn number(&self, key: &str) -> Result<usize, String> {
        let text = self.text(key)?;
        text.trim().parse().map_err(|_| format!("`{key}` is `{}`", shown(text)))
    }
    /// A list of exactly `count` numbers.
    fn list<T: std::str::FromStr>(&self, key: &str, count: usize) -> Result<Vec<T>, String> {
        let text = self.text(key)?;
        let list = text
            .split_ascii_whitespace()
            // One more than wanted is enough to see that there are too many.
            .take(count.saturating_add(1))
            .map(|word| word.parse().map_err(|_| format!("`{key}` holds `{}`", shown(word))))
            .collect::<Result<Vec<T>, String>>()?;
        if list.len() == count { Ok(list) } else { Err(format!("`{key}` does not have {count} values")) }
    }
}

/// The start of a text of the file, for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

struct Header {
    width: usize,
    outputs: usize,
    names: Vec<String>,
    /// The inputs whose values are categories.
    categorical: Vec<usize>,
    /// Those, and the inputs of which the file does not tell.
    perhaps_categorical: Vec<usize>,
    average: bool,
    link: Link,
    task: Task,
    classes: Vec<String>,
}

impl Header {
    fn of(section: &Section) -> Result<Header, String> {
        let version = section.text("version").unwrap_or("v1");
        if !["v3", "v4"].contains(&version) {
            return Err(format!("it has version `{}` of the format, v3 and v4 are read", shown(version)));
        }
        let last = section.number("max_feature_idx")?;
        let outputs = section.number("num_tree_per_iteration")?;
        if last >= MODEL_INPUTS_MAX || outputs == 0 || outputs > MODEL_OUTPUTS_MAX {
            return Err(format!("it has {outputs} outputs and {last} inputs"));
        }
        let width = last + 1;
        let names: Vec<String> = section.list("feature_names", width)?;
        let infos: Vec<String> = section.list("feature_infos", width)?;
        // A range is `[low:high]`, categories are `1:4:2`, and an input with one value alone is `none`, whatever it holds.
        let of =
            |holds: fn(&str) -> bool| infos.iter().enumerate().filter(|(_, i)| holds(i)).map(|(input, _)| input).collect::<Vec<usize>>();
        let categorical = of(|info| !info.starts_with('[') && info != "none");
        let perhaps = of(|info| !info.starts_with('['));
        let (link, task) = objective(section.0.get("objective").copied().unwrap_or_default(), outputs)?;
        let classes = match task {
            Task::Binary => 2,
            Task::Multiclass => outputs,
            Task::Regression | Task::Ranking => 0,
        };
        Ok(Header {
            width,
            outputs,
            categorical,
            perhaps_categorical: perhaps,
            names,
            average: section.0.contains_key("average_output"),
            link,
            task,
            classes: (0..classes).map(|class| class.to_string()).collect(),
        })
    }
}

/// What an objective does with the sums, and what they are then.
fn objective(text: &str, outputs: usize) -> Result<(Link, Task), String> {
    let mut words = text.split_ascii_whitespace();
    let name = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let steepness = || {
        let written = rest.iter().find_map(|word| word.strip_prefix("sigmoid:"));
        let steepness = written.map_or(Ok(1.0), str::parse::<f64>).map_err(|_| "the objective's sigmoid is no number".to_owned())?;
        Ok::<Link, String>(Link::Logistic { steepness })
    };
    let (link, task) = match name {
        "binary" => (steepness()?, Task::Binary),
        "multiclass" | "softmax" => (Link::Softmax, Task::Multiclass),
        "multiclassova" | "multiclass_ova" | "ova" | "ovr" => (steepness()?, Task::Multiclass),
        "cross_entropy" | "xentropy" => (Link::Logistic { steepness: 1.0 }, Task::Regression),
        "cross_entropy_lambda" | "xentlambda" => (Link::LogOnePlusExp, Task::Regression),
        "poisson" | "gamma" | "tweedie" => (Link::Exp, Task::Regression),
        "lambdarank" | "rank_xendcg" => (Link::Identity, Task::Ranking),
        "regression" if rest.contains(&"sqrt") => (Link::SignedSquare, Task::Regression),
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" => (Link::Identity, Task::Regression),
        // An objective of the user's own: its sums are its predictions.
        "" | "custom" => (Link::Identity, Task::Regression),
        other => return Err(format!("its objective `{}` is not known", shown(other))),
    };
    match task {
        Task::Multiclass if outputs > 1 => Ok((link, task)),
        Task::Multiclass => Err("it tells several classes apart, but has one output".into()),
        _ if outputs == 1 => Ok((link, task)),
        _ => Err(format!("it has {outputs} outputs, which the objective `{}` does not explain", shown(name))),
    }
}

/// One tree: inner nodes first, then leaves.
struct Tree {
    leaves: Vec<f64>,
    feature: Vec<usize>,
    threshold: Vec<f64>,
    decision: Vec<u8>,
    left: Vec<i64>,
    right: Vec<i64>,
    boundaries: Vec<usize>,
    bits: Vec<u32>,
    /// Rows of the training per leaf; empty if the file does not say.
    counts: Vec<f64>,
}

impl Tree {
    fn of(section: &Section) -> Result<Tree, String> {
        let leaves = section.number("num_leaves")?;
        let sets = section.number("num_cat")?;
        if section.0.get("is_linear").is_some_and(|flag| flag.trim() != "0") {
            return Err("its leaves are linear models, which are not served; train with linear_tree=false".into());
        }
        let inner = leaves.checked_sub(1).ok_or("it has no leaves")?;
        let (boundaries, bits) = match sets {
            0 => (Vec::new(), Vec::new()),
            // Each set has at least one character in the file, so its length bounds what is taken here.
            _ => {
                let boundaries: Vec<usize> = section.list("cat_boundaries", sets.checked_add(1).ok_or("it has too many sets")?)?;
                let bits = boundaries.last().copied().unwrap_or(0);
                (boundaries, section.list("cat_threshold", bits)?)
            }
        };
        Ok(Tree {
            leaves: section.list("leaf_value", leaves)?,
            feature: if inner == 0 { Vec::new() } else { section.list("split_feature", inner)? },
            threshold: if inner == 0 { Vec::new() } else { section.list("threshold", inner)? },
            decision: if inner == 0 { Vec::new() } else { section.list("decision_type", inner)? },
            left: if inner == 0 { Vec::new() } else { section.list("left_child", inner)? },
            right: if inner == 0 { Vec::new() } else { section.list("right_child", inner)? },
            boundaries,
            bits,
            // Scores do not need them, so a file without them is as good.
            counts: section.list("leaf_count", leaves).unwrap_or_default(),
        })
    }

    fn nodes(&self) -> usize {
        self.feature.len() + self.leaves.len()
    }

    fn node(&self, number: usize) -> Result<FileNode<'_>, String> {
        let inner = self.feature.len();
        if let Some(leaf) = number.checked_sub(inner) {
            return Ok(FileNode::Leaf(self.leaves[leaf]));
        }
        let kind = self.decision[number];
        let missing = match kind >> 2 & 3 {
            0 => Missing::None,
            1 => Missing::Zero,
            2 => Missing::NaN,
            _ => return Err(format!("the decision type of node {number} is {kind}")),
        };
        let (test, missing, default_left) = match kind & 1 {
            0 => (Test::AtMost(self.threshold[number]), missing, kind & 2 != 0),
            // Of categories, what is missing is in no set, whatever the type says.
            _ => (Test::Within(self.set(self.threshold[number])?), Missing::NaN, false),
        };
        // Leaves are counted downwards from -1.
        let child = |child: i64| match usize::try_from(child) {
            Ok(node) if node < inner => Ok(node),
            Ok(node) => Err(format!("node {number} leads to node {node} of {inner}")),
            Err(_) => Ok(inner.saturating_add(!child as usize)),
        };
        let (left, right) = (child(self.left[number])?, child(self.right[number])?);
        Ok(FileNode::Split { feature: self.feature[number], test, left, right, missing, default_left })
    }

    fn cover(&self, number: usize) -> Option<f64> {
        self.counts.get(number.checked_sub(self.feature.len())?).copied()
    }

    /// The bits of a set of categories, by its number, which the file keeps where thresholds are.
    fn set(&self, number: f64) -> Result<&[u32], String> {
        let bad = || format!("a split names the set {number} of {}", self.boundaries.len().saturating_sub(1));
        if number < 0.0 || number.fract() != 0.0 {
            return Err(bad());
        }
        let number = number as usize;
        let (from, to) = self.boundaries.get(number).zip(self.boundaries.get(number.saturating_add(1))).ok_or_else(bad)?;
        self.bits.get(*from..*to).ok_or_else(bad)
    }
}

/// What the codes of categorical inputs stand for, which the Python package writes behind the trees.
fn categories(lines: std::str::Lines, categorical: Vec<usize>, perhaps: Vec<usize>) -> Categories {
    let line = lines.filter_map(|line| line.strip_prefix("pandas_categorical:")).next_back();
    let lists: Option<Vec<Vec<serde_json::Value>>> = line.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let codes = |values: Vec<serde_json::Value>| {
        if values.iter().enumerate().all(|(code, value)| value.as_u64() == Some(code as u64)) {
            return Codes::Same;
        }
        let words = values.into_iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>();
        words.map_or(Codes::Other, Codes::Words)
    };
    let codes: Vec<Codes> = lists.unwrap_or_default().into_iter().map(codes).collect();
    let inputs = if codes.len() != categorical.len() && codes.len() == perhaps.len() { perhaps } else { categorical };
    Categories { inputs, codes }
}
