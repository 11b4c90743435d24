//! The model file: what `train` writes and `serve` reads. A format of the product, so it lives here with its meaning.
//!
//! A model file is JSON with a `format` number, a signature (which features, of which type, with which dictionaries), a body
//! (a forest or a linear form) and a reference profile for drift. No code, no pickle. [`ModelFile::score`] *is* the meaning of
//! the format: a faster runtime must give the same bits. Golden files in `testdata/` hold each format for ever.

use crate::error::{Code, Fault, Result};
use crate::view::FeatureType;
use std::collections::BTreeMap;

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The probability of the second class.
    Binary,
    /// A probability per class.
    Multiclass,
    /// A number.
    Regression,
    /// A score by which the rows of a group are ordered.
    Ranking,
}

/// One input of a model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Feature {
    /// The view it comes from.
    pub view: String,
    /// The column in the view.
    pub column: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FeatureType,
    /// For a category: the words, in the order of their codes. A word not in it is coded as missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

/// The body of a model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Body {
    /// Sums of trees.
    Forest(Forest),
    /// A weighted sum.
    Linear(Linear),
}

/// What happens to the sum of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Nothing.
    Identity,
    /// `1 / (1 + exp(-x))`.
    Logistic,
    /// Softmax over the outputs.
    Softmax,
    /// Divided by the number of trees of the output: the mean of a random forest.
    Mean,
}

/// Trees whose leaf values are added up in the order of the trees.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Forest {
    /// One start value per output.
    pub base: Vec<f64>,
    /// The trees.
    pub trees: Vec<Tree>,
    /// What happens to the sums.
    pub link: Link,
}

/// One tree, as parallel arrays; node 0 is the root.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Tree {
    /// Which output it adds to.
    pub output: u32,
    /// The feature a node asks about; `u32::MAX` marks a leaf.
    pub feature: Vec<u32>,
    /// Goes left when the value is below it (strictly), unless `categories` says otherwise. Unused in leaves.
    #[serde(with = "exact_floats")]
    pub threshold: Vec<f64>,
    /// The left child.
    pub left: Vec<u32>,
    /// The right child.
    pub right: Vec<u32>,
    /// Where a missing (NaN) value goes: 0 left, 1 right, 2 its own child `missing_child`.
    pub missing: Vec<u8>,
    /// The child for missing values where `missing` is 2; empty if there is none in the tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_child: Vec<u32>,
    /// Nodes that ask about a category: node -> the codes that go left.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "code_keys::deserialize")]
    pub categories: BTreeMap<u32, Vec<u32>>,
    /// A leaf's value; 0 in inner nodes.
    #[serde(with = "exact_floats")]
    pub value: Vec<f64>,
    /// How many of the training rows that were counted reach each node, which exact contributions need; scores do not. Empty in files that
    /// were written before it was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cover: Vec<u64>,
}

/// Marks a leaf in [`Tree::feature`].
pub const LEAF: u32 = u32::MAX;

/// A weighted sum per output over encoded inputs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Linear {
    /// The encoded inputs, in order.
    pub inputs: Vec<LinearInput>,
    /// `weights[output][input]`.
    pub weights: Vec<Vec<f64>>,
    /// One per output.
    pub intercept: Vec<f64>,
    /// What happens to the sums.
    pub link: Link,
}

/// One encoded input of a linear model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "take")]
pub enum LinearInput {
    /// `(x - mean) / scale`, with `fill` for a missing value.
    Scaled {
        /// Which feature.
        feature: u32,
        /// Subtracted.
        mean: f64,
        /// Divided by; never 0.
        scale: f64,
        /// Stands in for a missing value, before scaling.
        fill: f64,
    },
    /// 1 if the feature's code is this, else 0.
    OneHot {
        /// Which feature.
        feature: u32,
        /// The code.
        code: u32,
    },
    /// 1 if the feature is missing, else 0.
    Missing {
        /// Which feature.
        feature: u32,
    },
}

/// How one column looked in training; drift is measured against it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum Reference {
    /// A number or boolean, by quantile bins: `edges` has one entry fewer than `counts`; bin i holds edges[i-1] <= x < edges[i].
    Number {
        /// Ascending, finite.
        edges: Vec<f64>,
        /// Rows per bin.
        counts: Vec<u64>,
        /// Missing rows.
        missing: u64,
        /// A sorted sample of at most 1000 values, for KS.
        sample: Vec<f64>,
    },
    /// A category, by word.
    Category {
        /// Rows per word.
        counts: BTreeMap<String, u64>,
        /// Rows with other words.
        other: u64,
        /// Missing rows.
        missing: u64,
    },
}

/// A trained model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ModelFile {
    /// Format of this file.
    pub format: u32,
    /// The model asset's name.
    pub name: String,
    /// The algorithm's name, for people.
    pub algorithm: String,
    /// What it predicts.
    pub task: Task,
    /// The classes in output order, for classification: `["false", "true"]`.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The entity's columns, in the order of the label set's header.
    pub entity: Vec<String>,
    /// The inputs in order.
    pub features: Vec<Feature>,
    /// What computes.
    pub body: Body,
    /// How each feature (`view.column`) and the held-out score (`score`) looked.
    pub reference: BTreeMap<String, Reference>,
    /// Share of the total gain per feature (`view.column`), where the algorithm knows it.
    #[serde(default)]
    pub importance: BTreeMap<String, f64>,
}

impl ModelFile {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 1;

    /// Reads and checks a model file: every index in it is in range, so scoring cannot fail.
    pub fn read(bytes: &[u8]) -> Result<ModelFile> {
        #[derive(serde::Deserialize)]
        struct Head {
            format: u32,
        }
        let bad = |e: serde_json::Error| Fault::invalid(Code::BAD_MODEL, format!("not a model file: {e}")).fix("train it again");
        let head: Head = serde_json::from_slice(bytes).map_err(bad)?;
        if head.format > Self::FORMAT {
            return Err(Fault::invalid(
                Code::NEWER_FORMAT,
                format!("the model file has format {}, this binary reads up to {}", head.format, Self::FORMAT),
            )
            .fix("use the newer gristmill that wrote it"));
        }
        let model: ModelFile = serde_json::from_slice(bytes).map_err(bad)?;
        model.check()?;
        Ok(model)
    }

    /// The bytes of the file; equal models have equal bytes.
    pub fn write(&self) -> Result<Vec<u8>> {
        self.check()?;
        serde_json::to_vec(self).map_err(|e| Fault::internal("a model does not serialise").because(e))
    }

    /// How many outputs a row has: 1, or one per class.
    pub fn outputs(&self) -> usize {
        match &self.body {
            Body::Forest(f) => f.base.len(),
            Body::Linear(l) => l.intercept.len(),
        }
    }

    /// Scores one row of encoded features (see [`encode_word`]; NaN is missing) into `out`, which has [`Self::outputs`] places.
    pub fn score(&self, row: &[f64], out: &mut [f64]) {
        match &self.body {
            Body::Forest(f) => f.score(row, out),
            Body::Linear(l) => l.score(row, out),
        }
    }

    fn check(&self) -> Result<()> {
        let bad = |what: String| Fault::invalid(Code::BAD_MODEL, format!("the model file is damaged: {what}")).fix("train it again");
        let features = self.features.len() as u32;
        match &self.body {
            Body::Forest(forest) => {
                if forest.base.is_empty() {
                    return Err(bad("no outputs".into()));
                }
                for (number, tree) in forest.trees.iter().enumerate() {
                    tree.check(features, forest.base.len() as u32).map_err(|why| bad(format!("tree {number}: {why}")))?;
                }
            }
            Body::Linear(linear) => {
                let width_ok = linear.weights.iter().all(|w| w.len() == linear.inputs.len());
                if linear.intercept.is_empty() || linear.weights.len() != linear.intercept.len() || !width_ok {
                    return Err(bad("weights of the wrong shape".into()));
                }
                for input in &linear.inputs {
                    let (LinearInput::Scaled { feature, .. } | LinearInput::OneHot { feature, .. } | LinearInput::Missing { feature }) =
                        input;
                    if *feature >= features {
                        return Err(bad(format!("feature {feature} of {features}")));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Forest {
    fn score(&self, row: &[f64], out: &mut [f64]) {
        out.copy_from_slice(&self.base);
        for tree in &self.trees {
            out[tree.output as usize] += tree.score(row);
        }
        self.linked(out);
    }

    /// What the sums over the leaves of a row, with the start values, mean.
    pub fn linked(&self, out: &mut [f64]) {
        match self.link {
            Link::Mean => {
                let mut counts = vec![0u32; out.len()];
                self.trees.iter().for_each(|t| counts[t.output as usize] += 1);
                out.iter_mut().zip(counts).for_each(|(o, n)| *o /= f64::from(n.max(1)));
            }
            link => link.apply(out),
        }
    }
}

impl Linear {
    fn score(&self, row: &[f64], out: &mut [f64]) {
        let inputs: Vec<f64> = self.inputs.iter().map(|i| i.encode(row)).collect();
        for (output, (weights, intercept)) in self.weights.iter().zip(&self.intercept).enumerate() {
            out[output] = weights.iter().zip(&inputs).fold(*intercept, |sum, (w, x)| sum + w * x);
        }
        self.link.apply(out);
    }
}

impl LinearInput {
    /// The value of this input for a row of features.
    pub fn encode(&self, row: &[f64]) -> f64 {
        match *self {
            LinearInput::Scaled { feature, mean, scale, fill } => {
                let x = row[feature as usize];
                ((if x.is_nan() { fill } else { x }) - mean) / scale
            }
            LinearInput::OneHot { feature, code } => f64::from(u8::from(row[feature as usize] == f64::from(code))),
            LinearInput::Missing { feature } => f64::from(u8::from(row[feature as usize].is_nan())),
        }
    }
}

impl Link {
    fn apply(self, out: &mut [f64]) {
        match self {
            Link::Identity | Link::Mean => {}
            Link::Logistic => out.iter_mut().for_each(|x| *x = logistic(*x)),
            Link::Softmax => {
                let top = out.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.iter_mut().for_each(|x| *x = (*x - top).exp());
                let sum: f64 = out.iter().sum();
                out.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}

/// `1 / (1 + exp(-x))`.
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Tree {
    /// The value of the leaf a row falls into.
    pub fn score(&self, row: &[f64]) -> f64 {
        let mut at = 0usize;
        while self.feature[at] != LEAF {
            at = self.child(at, row[self.feature[at] as usize]);
        }
        self.value[at]
    }

    /// Where an inner node sends a value of its feature.
    #[inline]
    pub fn child(&self, at: usize, x: f64) -> usize {
        let child = if x.is_nan() {
            match self.missing[at] {
                0 => self.left[at],
                1 => self.right[at],
                _ => self.missing_child[at],
            }
        } else {
            let goes_left = match self.categories.get(&(at as u32)) {
                Some(codes) => codes.iter().any(|c| f64::from(*c) == x),
                None => x < self.threshold[at],
            };
            if goes_left { self.left[at] } else { self.right[at] }
        };
        child as usize
    }

    fn check(&self, features: u32, outputs: u32) -> std::result::Result<(), String> {
        let nodes = self.feature.len();
        let same =
            [self.threshold.len(), self.left.len(), self.right.len(), self.missing.len(), self.value.len()].iter().all(|n| *n == nodes);
        let covered = self.cover.is_empty() || self.cover.len() == nodes;
        if nodes == 0 || !same || !covered || self.output >= outputs {
            return Err("arrays of different lengths".into());
        }
        for at in 0..nodes {
            if self.feature[at] == LEAF {
                continue;
            }
            let mut children = vec![self.left[at], self.right[at]];
            if self.missing[at] == 2 {
                children.push(*self.missing_child.get(at).ok_or("a missing branch without a child")?);
            }
            // A child always stands behind its parent, so that every walk ends.
            if self.feature[at] >= features || self.missing[at] > 2 || children.iter().any(|c| *c as usize >= nodes || *c as usize <= at) {
                return Err(format!("node {at} points outside the tree"));
            }
        }
        Ok(())
    }
}

/// The code of a word: its place in the dictionary, NaN if it is missing or unknown.
pub fn encode_word(categories: &[String], word: Option<&str>) -> f64 {
    word.and_then(|w| categories.iter().position(|c| c == w)).map_or(f64::NAN, |code| code as f64)
}

/// JSON has no infinities and NaN; thresholds may be infinite. They are written as words.
mod exact_floats {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Float {
        Plain(f64),
        Word(String),
    }

    pub fn serialize<S: Serializer>(values: &[f64], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|v| if v.is_finite() { Float::Plain(*v) } else { Float::Word(v.to_string()) }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
        Vec::<Float>::deserialize(d)?
            .into_iter()
            .map(|f| match f {
                Float::Plain(v) => Ok(v),
                Float::Word(w) => w.parse().map_err(|_| serde::de::Error::custom("not a number")),
            })
            .collect()
    }
}

/// Keys of a JSON object are text, and inside a tagged enum serde does not turn them into numbers by itself.
mod code_keys {
    use serde::{Deserialize, Deserializer};
    use std::collections::BTreeMap;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<u32, Vec<u32>>, D::Error> {
        BTreeMap::<String, Vec<u32>>::deserialize(d)?
            .into_iter()
            .map(|(node, codes)| match node.parse::<u32>() {
                Ok(node) => Ok((node, codes)),
                Err(_) => Err(serde::de::Error::custom(format!("`{node}` is not the number of a node"))),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump() -> ModelFile {
        let tree = Tree {
            output: 0,
            feature: vec![0, LEAF, LEAF],
            threshold: vec![f64::INFINITY, 0.0, 0.0],
            left: vec![1, 0, 0],
            right: vec![2, 0, 0],
            missing: vec![1, 0, 0],
            value: vec![0.0, -1.0, 1.0],
            ..Tree::default()
        };
        ModelFile {
            format: 1,
            name: "m".into(),
            algorithm: "gbdt".into(),
            task: Task::Binary,
            classes: vec!["false".into(), "true".into()],
            entity: vec!["id".into()],
            features: vec![Feature { view: "v".into(), column: "c".into(), kind: FeatureType::Number, categories: vec![] }],
            body: Body::Forest(Forest { base: vec![0.0], trees: vec![tree], link: Link::Logistic }),
            reference: BTreeMap::new(),
            importance: BTreeMap::new(),
        }
    }

    #[test]
    fn a_model_round_trips_and_scores() {
        let model = stump();
        let again = ModelFile::read(&model.write().expect("writes")).expect("reads");
        assert_eq!(again, model);
        let mut out = [0.0];
        again.score(&[3.0], &mut out);
        assert_eq!(out[0], logistic(-1.0));
        again.score(&[f64::NAN], &mut out);
        assert_eq!(out[0], logistic(1.0));
    }

    #[test]
    fn splits_by_category_round_trip() {
        let mut model = stump();
        if let Body::Forest(f) = &mut model.body {
            f.trees[0].categories.insert(0, vec![1, 3]);
        }
        assert_eq!(ModelFile::read(&model.write().expect("writes")).expect("reads"), model);
    }

    #[test]
    fn covers_round_trip_and_files_without_them_are_read() {
        let mut model = stump();
        let text = String::from_utf8(model.write().expect("writes")).expect("text");
        assert!(!text.contains("cover"), "{text}");
        assert_eq!(ModelFile::read(text.as_bytes()).expect("reads"), model);
        let set = |model: &mut ModelFile, cover: Vec<u64>| match &mut model.body {
            Body::Forest(forest) => forest.trees[0].cover = cover,
            Body::Linear(_) => unreachable!("a stump is a tree"),
        };
        set(&mut model, vec![10, 7, 3]);
        assert_eq!(ModelFile::read(&model.write().expect("writes")).expect("reads"), model);
        set(&mut model, vec![10, 7]);
        assert_eq!(ModelFile::read(&serde_json::to_vec(&model).expect("json")).expect_err("too few").code, Code::BAD_MODEL);
    }

    #[test]
    fn damage_is_found_on_reading() {
        let mut model = stump();
        if let Body::Forest(f) = &mut model.body {
            f.trees[0].left[0] = 0; // a loop
        }
        let bytes = serde_json::to_vec(&model).expect("json");
        assert_eq!(ModelFile::read(&bytes).expect_err("a loop").code, Code::BAD_MODEL);
        let newer = br#"{"format": 99}"#;
        assert_eq!(ModelFile::read(newer).expect_err("newer").code, Code::NEWER_FORMAT);
    }
}
