//! XGBoost's models in JSON and UBJSON: what `Booster.save_model` writes since version 1.0.
//!
//! Pure: bytes in, a forest or a sentence about what is wrong out. Read are the boosters `gbtree` and `dart`. Not read: `gblinear`, trees
//! with several values per leaf, several targets, and the binary format before JSON, which holds the memory of another program.
//!
//! XGBoost computes in `f32`, and so does the forest: sums begin at the base score on the scale before the link, and take the trees in order.

use super::doc::Doc;
use super::forest::{Builder, FileNode, Link, Missing, Precision, Test};
use super::{Categories, Codes, ReadModel};
use gristmill_kernel::limits::{MODEL_CATEGORIES_MAX, MODEL_INPUTS_MAX, MODEL_NODES_MAX, MODEL_OUTPUTS_MAX};
use gristmill_kernel::model::Task;

/// Which trees answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// All of them, as a `Booster` predicts.
    All,
    /// Up to the best round, if training stopped early, as the scikit-learn classes predict.
    Best,
}

/// Reads a model. `Err` says what is wrong with the file, as part of a sentence.
pub fn read(bytes: &[u8], rounds: Rounds) -> Result<ReadModel, String> {
    let doc = Doc::read(bytes)?;
    let learner = doc.at(&["learner"])?;
    let booster = Booster::of(learner.at(&["gradient_booster"])?)?;
    let params = learner.at(&["learner_model_param"])?;
    let count = |key: &str| params.get(key).map_or(Some(0), Doc::count).ok_or_else(|| format!("`{key}` is no number"));
    let (width, outputs) = (count("num_feature")?, count("num_class")?.max(1));
    if count("num_target")? > 1 {
        return Err("it predicts several targets at once, which is not served; train one model per target".into());
    }
    if width > MODEL_INPUTS_MAX || outputs > MODEL_OUTPUTS_MAX {
        return Err(format!("it has {width} inputs and {outputs} outputs"));
    }
    let objective = learner.at(&["objective", "name"])?.text().ok_or("`objective.name` is no text")?;
    let objective = Objective::of(objective, outputs)?;
    let base = base_scores(params.at(&["base_score"])?, outputs)?.into_iter().map(|b| f64::from(objective.margin(b))).collect();
    let mut builder = Builder::new(width, base, Precision::Single, objective.link)?;
    let trees = booster.trees_that_answer(learner, rounds, outputs)?;
    for (number, tree) in booster.trees.iter().enumerate().take(trees) {
        let (output, weight) = (booster.output(number)?, booster.weight(number)?);
        Tree::of(tree, weight)
            .and_then(|tree| builder.covered_tree(output, tree.count, |node| tree.node(node), |node| tree.hessians?.nth(node)))
            .map_err(|why| format!("tree {number}: {why}"))?;
    }
    let names = learner.get("feature_names").and_then(Doc::list).unwrap_or_default();
    let names: Vec<String> = names.iter().filter_map(|name| name.text().map(str::to_owned)).collect();
    let classes = match objective.task {
        Task::Binary => 2,
        Task::Multiclass => outputs,
        Task::Regression | Task::Ranking => 0,
    };
    Ok(ReadModel {
        forest: builder.finish(),
        task: objective.task,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        names: if names.len() == width { names } else { (0..width).map(|input| format!("f{input}")).collect() },
        categories: categories(&booster)?,
    })
}

/// The part of the file that holds the trees.
struct Booster<'a> {
    model: &'a Doc,
    trees: &'a [Doc],
    /// The weight of each tree, where trees were dropped in training.
    weights: Option<&'a Doc>,
}

impl<'a> Booster<'a> {
    fn of(doc: &'a Doc) -> Result<Booster<'a>, String> {
        let (model, weights) = match doc.at(&["name"])?.text() {
            Some("gbtree") => (doc.at(&["model"])?, None),
            Some("dart") => (doc.at(&["gbtree", "model"])?, Some(doc.at(&["weight_drop"])?)),
            Some("gblinear") => return Err("its booster is gblinear, which is not served; train with booster=\"gbtree\"".into()),
            _ => return Err("its booster is not known".into()),
        };
        let trees = model.at(&["trees"])?.list().ok_or("`trees` is no list")?;
        Ok(Booster { model, trees, weights })
    }
    fn output(&self, tree: usize) -> Result<usize, String> {
        let output = self.model.at(&["tree_info"])?.nth(tree).filter(|o| *o >= 0.0 && o.fract() == 0.0);
        output.map(|o| o as usize).ok_or_else(|| format!("tree {tree} has no output"))
    }
    fn weight(&self, tree: usize) -> Result<f32, String> {
        self.weights.map_or(Ok(1.0), |w| w.nth(tree).map(|w| w as f32).ok_or_else(|| format!("tree {tree} has no weight")))
    }
    /// How many of the trees, from the first on, answer.
    fn trees_that_answer(&self, learner: &Doc, rounds: Rounds, outputs: usize) -> Result<usize, String> {
        let all = self.trees.len();
        let best = learner.get("attributes").and_then(|a| a.get("best_iteration")).and_then(Doc::count);
        let Some(best) = best.filter(|_| rounds == Rounds::Best) else { return Ok(all) };
        let rounds = best + 1;
        if let Some(ends) = self.model.get("iteration_indptr") {
            return Ok(ends.nth(rounds).map_or(all, |end| (end.max(0.0) as usize).min(all)));
        }
        let parallel = self.model.at(&["gbtree_model_param"])?.get("num_parallel_tree").and_then(Doc::count).unwrap_or(1).max(1);
        Ok(rounds.saturating_mul(parallel).saturating_mul(outputs).min(all))
    }
}

/// What an objective does with the sums.
struct Objective {
    link: Link,
    task: Task,
}

impl Objective {
    fn of(name: &str, outputs: usize) -> Result<Objective, String> {
        let logistic = Link::Logistic { steepness: 1.0 };
        let (link, task) = match name {
            "binary:logistic" => (logistic, Task::Binary),
            "reg:logistic" => (logistic, Task::Regression),
            "binary:logitraw" => (Link::Identity, Task::Regression),
            "binary:hinge" => (Link::Step, Task::Binary),
            "multi:softprob" | "multi:softmax" => (Link::Softmax, Task::Multiclass),
            "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => (Link::Exp, Task::Regression),
            "reg:squarederror"
            | "reg:linear"
            | "reg:squaredlogerror"
            | "reg:absoluteerror"
            | "reg:pseudohubererror"
            | "reg:quantileerror" => (Link::Identity, Task::Regression),
            "rank:pairwise" | "rank:ndcg" | "rank:map" => (Link::Identity, Task::Ranking),
            other => {
                let shown: String = other.chars().take(40).flat_map(char::escape_debug).collect();
                return Err(format!("its objective `{shown}` is not known"));
            }
        };
        match (task, outputs) {
            (Task::Multiclass, 1) => Err("it tells several classes apart, but has one output".into()),
            (Task::Multiclass, _) | (_, 1) => Ok(Objective { link, task }),
            (_, outputs) => Err(format!("it has {outputs} outputs, which its objective does not explain")),
        }
    }
    /// A base score, which the file gives as a prediction, on the scale of the sums.
    fn margin(&self, base: f32) -> f32 {
        match (self.link, self.task) {
            (Link::Logistic { .. }, _) => -(1.0 / base - 1.0).ln(),
            (Link::Exp, _) => base.ln(),
            _ => base,
        }
    }
}

/// The base score of each output: a number or a list, as text since ever. One stands for all.
fn base_scores(doc: &Doc, outputs: usize) -> Result<Vec<f32>, String> {
    let bad = || "`base_score` is no number".to_owned();
    let scores: Vec<f32> = match doc {
        Doc::Text(text) => {
            let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
            inside.split(',').map(|word| word.trim().parse().map_err(|_| bad())).collect::<Result<_, _>>()?
        }
        Doc::Number(number) => vec![*number as f32],
        list => (0..list.len().ok_or_else(bad)?).map(|i| list.nth(i).map(|s| s as f32).ok_or_else(bad)).collect::<Result<_, _>>()?,
    };
    match scores.as_slice() {
        [one] => Ok(vec![*one; outputs]),
        all if all.len() == outputs => Ok(scores),
        all => Err(format!("it has {} base scores for {outputs} outputs", all.len())),
    }
}

/// One tree, as parallel lists.
struct Tree<'a> {
    count: usize,
    weight: f32,
    left: &'a Doc,
    right: &'a Doc,
    feature: &'a Doc,
    condition: &'a Doc,
    default_left: &'a Doc,
    /// Whether a split is by categories; files before them have no such list.
    kinds: Option<&'a Doc>,
    /// What stands for the rows of the training: the sums of their second derivatives.
    hessians: Option<&'a Doc>,
    /// The bits of the categories of each split by categories, in the order of [`Self::by_category`].
    sets: Vec<Vec<u32>>,
    /// The nodes that split by categories.
    by_category: Vec<usize>,
}

impl<'a> Tree<'a> {
    fn of(doc: &'a Doc, weight: f32) -> Result<Tree<'a>, String> {
        if doc.get("tree_param").and_then(|p| p.get("size_leaf_vector")).and_then(Doc::count).is_some_and(|size| size > 1) {
            return Err("its leaves have several values, which is not served; train with multi_strategy=\"one_output_per_tree\"".into());
        }
        let list = |key: &str| doc.at(&[key]);
        let (by_category, sets) = sets(doc)?;
        let left = list("left_children")?;
        Ok(Tree {
            count: left.len().ok_or("`left_children` is no list")?,
            weight,
            left,
            right: list("right_children")?,
            feature: list("split_indices")?,
            condition: list("split_conditions")?,
            default_left: list("default_left")?,
            kinds: doc.get("split_type"),
            hessians: doc.get("sum_hessian"),
            sets,
            by_category,
        })
    }

    fn node(&self, number: usize) -> Result<FileNode<'_>, String> {
        let of = |list: &Doc| list.nth(number).ok_or_else(|| format!("node {number} lacks something"));
        let index = |list: &Doc| of(list).map(|x| if x >= 0.0 && x.fract() == 0.0 { x as usize } else { usize::MAX });
        if of(self.left)? == -1.0 {
            return Ok(FileNode::Leaf(f64::from(of(self.condition)? as f32 * self.weight)));
        }
        let default_left = of(self.default_left)? != 0.0;
        let (left, right, feature) = (index(self.left)?, index(self.right)?, index(self.feature)?);
        if self.kinds.and_then(|kinds| kinds.nth(number)).is_some_and(|kind| kind != 0.0) {
            let set = self.by_category.binary_search(&number).map_err(|_| format!("node {number} has no categories"))?;
            // What is in the set goes right here, and left in our trees.
            let test = Test::Within(&self.sets[set]);
            return Ok(FileNode::Split { feature, test, left: right, right: left, missing: Missing::NaN, default_left: !default_left });
        }
        let test = Test::Below(f64::from(of(self.condition)? as f32));
        Ok(FileNode::Split { feature, test, left, right, missing: Missing::NaN, default_left })
    }
}

/// The nodes that split by categories, ascending, and the bits of each set.
fn sets(tree: &Doc) -> Result<(Vec<usize>, Vec<Vec<u32>>), String> {
    let Some(nodes) = tree.get("categories_nodes") else { return Ok((Vec::new(), Vec::new())) };
    let count = nodes.len().unwrap_or(0);
    let bad = || "its sets of categories are not whole".to_owned();
    let whole = |x: Option<f64>, limit: usize| x.filter(|x| *x >= 0.0 && x.fract() == 0.0 && *x < limit as f64).map(|x| x as usize);
    let (mut order, mut all, mut words) = (Vec::new(), Vec::new(), 0);
    for place in 0..count {
        let node = whole(nodes.nth(place), usize::MAX).ok_or_else(bad)?;
        if order.last().is_some_and(|last| *last >= node) {
            return Err(bad());
        }
        let categories = tree.at(&["categories"])?;
        let held = categories.len().unwrap_or(0) + 1;
        let from = whole(tree.at(&["categories_segments"])?.nth(place), held).ok_or_else(bad)?;
        let size = whole(tree.at(&["categories_sizes"])?.nth(place), held - from).ok_or_else(bad)?;
        let mut bits = Vec::new();
        for at in from..from + size {
            let code = whole(categories.nth(at), MODEL_CATEGORIES_MAX).ok_or_else(bad)?;
            if bits.len() <= code / 32 {
                bits.resize(code / 32 + 1, 0);
            }
            bits[code / 32] |= 1_u32 << (code % 32);
        }
        words += bits.len();
        if words > MODEL_NODES_MAX {
            return Err("its sets of categories are too large".into());
        }
        order.push(node);
        all.push(bits);
    }
    Ok((order, all))
}

/// The words behind the codes of categorical inputs, which files since version 3.1 carry.
fn categories(booster: &Booster) -> Result<Categories, String> {
    let Some(inputs) = booster.model.get("cats").and_then(|cats| cats.get("enc")).and_then(Doc::list) else {
        return Ok(Categories::default());
    };
    let mut found = Categories::default();
    for (input, column) in inputs.iter().enumerate() {
        let bad = || format!("the categories of input {input} cannot be read");
        let values = column.get("values").and_then(|values| Some((values, values.len()?))).filter(|(_, count)| *count > 0);
        let Some((values, count)) = values else { continue };
        let codes = match column.get("offsets") {
            // Words, one behind the other.
            Some(offsets) => {
                let bytes: Vec<u8> = (0..count).map(|i| values.nth(i).map(|b| b as i16 as u8).ok_or_else(bad)).collect::<Result<_, _>>()?;
                let ends = offsets.len().ok_or_else(bad)?;
                let end = |i: usize| offsets.nth(i).filter(|end| *end >= 0.0).map(|end| end as usize).ok_or_else(bad);
                let word = |i: usize| {
                    let word = bytes.get(end(i)?..end(i + 1)?).ok_or_else(bad)?;
                    String::from_utf8(word.to_vec()).map_err(|_| bad())
                };
                Codes::Words((0..ends.saturating_sub(1)).map(word).collect::<Result<Vec<String>, String>>()?)
            }
            None if (0..count).all(|i| values.nth(i) == Some(i as f64)) => Codes::Same,
            None => Codes::Other,
        };
        found.inputs.push(input);
        found.codes.push(codes);
    }
    Ok(found)
}
