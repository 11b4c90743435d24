//! ONNX files: protocol buffers, as far as graphs need them. Field numbers are those of ONNX's `onnx.proto`.
//!
//! Promise: what is read points into the bytes or is a number that stands in them; counts are bounded before anything is collected. Functions,
//! training information and sparse tensors are passed over: a graph that uses them does not run. Nested graphs and types are not followed, so
//! nothing here is deeper than a model, its graph, a node, an attribute and its tensor.

use gristmill_kernel::limits::MODEL_VALUES_MAX;
use gristmill_kernel::protobuf::{Field, Fields, Result, varint};
use std::cell::Cell;

/// A graph.
#[derive(Debug, Default)]
pub struct Graph<'a> {
    /// Its nodes, each behind those whose results it takes.
    pub nodes: Vec<Node<'a>>,
    /// Constants.
    pub constants: Vec<Tensor<'a>>,
    pub inputs: Vec<Value<'a>>,
    pub outputs: Vec<Value<'a>>,
}

/// A node.
#[derive(Debug, Default)]
pub struct Node<'a> {
    pub op: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub attributes: Vec<Attribute<'a>>,
}

/// An attribute of a node; what it does not have is empty.
#[derive(Debug, Default)]
pub struct Attribute<'a> {
    pub name: &'a str,
    pub float: Option<f32>,
    pub int: Option<i64>,
    pub text: Option<&'a [u8]>,
    pub tensor: Option<Tensor<'a>>,
    pub floats: Vec<f32>,
    pub ints: Vec<i64>,
    pub texts: Vec<&'a [u8]>,
}

/// A tensor.
#[derive(Debug, Default)]
pub struct Tensor<'a> {
    pub name: &'a str,
    pub dims: Vec<i64>,
    /// The number of its element type.
    pub kind: i64,
    pub numbers: Vec<f64>,
    pub texts: Vec<&'a [u8]>,
    raw: &'a [u8],
    /// Whether its values are in another file.
    pub external: bool,
}

/// An input or output.
#[derive(Debug, Default)]
pub struct Value<'a> {
    pub name: &'a str,
    /// The number of its element type; `None` for what is no tensor.
    pub kind: Option<i64>,
    /// Its dimensions as far as they are numbers; `None` if the file does not say.
    pub shape: Option<Vec<Option<i64>>>,
}

/// Element types.
pub const FLOAT: i64 = 1;
pub const INT32: i64 = 6;
pub const INT64: i64 = 7;
pub const TEXT: i64 = 8;
pub const BOOL: i64 = 9;
pub const DOUBLE: i64 = 11;

/// Reads the graph of a model.
pub fn read(bytes: &[u8]) -> Result<Graph<'_>> {
    let budget = Budget(Cell::new(MODEL_VALUES_MAX));
    let mut graph = None;
    for field in Fields::of(bytes) {
        if let (7, Field::Bytes(bytes)) = field? {
            graph = Some(read_graph(bytes, &budget)?);
        }
    }
    graph.ok_or_else(|| "it holds no graph".to_owned())
}

/// How many values may still be collected.
struct Budget(Cell<usize>);

impl Budget {
    fn spend(&self, values: usize) -> Result<()> {
        let left = self.0.get().checked_sub(values).ok_or_else(|| format!("it has more than {MODEL_VALUES_MAX} values"))?;
        self.0.set(left);
        Ok(())
    }
}

fn read_graph<'a>(bytes: &'a [u8], budget: &Budget) -> Result<Graph<'a>> {
    let mut graph = Graph::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Bytes(bytes)) => graph.nodes.push(read_node(bytes, budget)?),
            (5, Field::Bytes(bytes)) => graph.constants.push(read_tensor(bytes, budget)?),
            (11, Field::Bytes(bytes)) => graph.inputs.push(read_value(bytes, budget)?),
            (12, Field::Bytes(bytes)) => graph.outputs.push(read_value(bytes, budget)?),
            _ => {}
        }
        // A node or a tensor without anything in it takes room too.
        budget.spend(20)?;
    }
    Ok(graph)
}

fn read_node<'a>(bytes: &'a [u8], budget: &Budget) -> Result<Node<'a>> {
    let mut node = Node::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Bytes(name)) => node.inputs.push(text(name)?),
            (2, Field::Bytes(name)) => node.outputs.push(text(name)?),
            (4, Field::Bytes(op)) => node.op = text(op)?,
            (5, Field::Bytes(bytes)) => node.attributes.push(read_attribute(bytes, budget)?),
            _ => {}
        }
        budget.spend(20)?;
    }
    Ok(node)
}

fn read_attribute<'a>(bytes: &'a [u8], budget: &Budget) -> Result<Attribute<'a>> {
    let mut attribute = Attribute::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Bytes(name)) => attribute.name = text(name)?,
            (2, Field::Fixed32(bits)) => attribute.float = Some(f32::from_bits(bits)),
            (3, Field::Varint(int)) => attribute.int = Some(int as i64),
            (4, Field::Bytes(text)) => attribute.text = Some(text),
            (5, Field::Bytes(bytes)) => attribute.tensor = Some(read_tensor(bytes, budget)?),
            (7, field) => attribute.floats.extend(fixed32(field, budget)?.into_iter().map(f32::from_bits)),
            (8, field) => attribute.ints.extend(varints(field, budget)?.into_iter().map(|int| int as i64)),
            (9, Field::Bytes(text)) => {
                budget.spend(2)?;
                attribute.texts.push(text);
            }
            _ => {}
        }
    }
    Ok(attribute)
}

fn read_tensor<'a>(bytes: &'a [u8], budget: &Budget) -> Result<Tensor<'a>> {
    let mut tensor = Tensor::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, field) => tensor.dims.extend(varints(field, budget)?.into_iter().map(|dim| dim as i64)),
            (2, Field::Varint(kind)) => tensor.kind = kind as i64,
            (4, field) => tensor.numbers.extend(fixed32(field, budget)?.into_iter().map(|bits| f64::from(f32::from_bits(bits)))),
            (5 | 7, field) => tensor.numbers.extend(varints(field, budget)?.into_iter().map(|int| int as i64 as f64)),
            (6, Field::Bytes(text)) => {
                budget.spend(2)?;
                tensor.texts.push(text);
            }
            (8, Field::Bytes(name)) => tensor.name = text(name)?,
            (9, Field::Bytes(raw)) => tensor.raw = raw,
            (10, field) => tensor.numbers.extend(fixed64(field, budget)?.into_iter().map(f64::from_bits)),
            (13, _) => tensor.external = true,
            (14, Field::Varint(location)) => tensor.external |= location != 0,
            _ => {}
        }
    }
    if tensor.numbers.is_empty() && !tensor.raw.is_empty() {
        budget.spend(tensor.raw.len() / 4 + 1)?;
        tensor.numbers = raw_numbers(tensor.raw, tensor.kind);
    }
    Ok(tensor)
}

/// The numbers in raw bytes, lowest byte first; none for types that are not read.
fn raw_numbers(raw: &[u8], kind: i64) -> Vec<f64> {
    fn each<const N: usize>(raw: &[u8], read: fn([u8; N]) -> f64) -> Vec<f64> {
        let (chunks, rest) = raw.as_chunks::<N>();
        if rest.is_empty() { chunks.iter().map(|c| read(*c)).collect() } else { Vec::new() }
    }
    match kind {
        FLOAT => each(raw, |b| f64::from(f32::from_le_bytes(b))),
        DOUBLE => each(raw, f64::from_le_bytes),
        INT32 => each(raw, |b| f64::from(i32::from_le_bytes(b))),
        INT64 => each(raw, |b| i64::from_le_bytes(b) as f64),
        _ => Vec::new(),
    }
}

impl Tensor<'_> {
    /// Whether there are as many numbers as its dimensions say.
    pub fn is_whole(&self) -> bool {
        let count = self.dims.iter().try_fold(1_usize, |count, dim| count.checked_mul(usize::try_from(*dim).ok()?));
        !self.external && count == Some(self.numbers.len())
    }
}

fn read_value<'a>(bytes: &'a [u8], budget: &Budget) -> Result<Value<'a>> {
    let mut value = Value::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Bytes(name)) => value.name = text(name)?,
            (2, Field::Bytes(kind)) => {
                for field in Fields::of(kind) {
                    // Field 1 is a tensor; sequences, maps and options are no tensors.
                    if let (1, Field::Bytes(tensor)) = field? {
                        read_tensor_type(tensor, &mut value, budget)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(value)
}

fn read_tensor_type(bytes: &[u8], value: &mut Value<'_>, budget: &Budget) -> Result<()> {
    value.kind = Some(0);
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Varint(kind)) => value.kind = Some(kind as i64),
            (2, Field::Bytes(shape)) => {
                let mut dims = Vec::new();
                for dim in Fields::of(shape) {
                    let (1, Field::Bytes(dim)) = dim? else { continue };
                    budget.spend(4)?;
                    let mut number = None;
                    for field in Fields::of(dim) {
                        if let (1, Field::Varint(size)) = field? {
                            number = Some(size as i64).filter(|size| *size > 0);
                        }
                    }
                    dims.push(number);
                }
                value.shape = Some(dims);
            }
            _ => {}
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| "a name is not UTF-8".to_owned())
}

/// Numbers of four bytes, packed or single.
fn fixed32(field: Field<'_>, budget: &Budget) -> Result<Vec<u32>> {
    match field {
        Field::Fixed32(bits) => budget.spend(1).map(|()| vec![bits]),
        Field::Bytes(packed) => {
            let (chunks, rest) = packed.as_chunks::<4>();
            budget.spend(chunks.len())?;
            if rest.is_empty() {
                Ok(chunks.iter().map(|c| u32::from_le_bytes(*c)).collect())
            } else {
                Err("a list of numbers is cut off".into())
            }
        }
        Field::Varint(_) | Field::Fixed64(_) => Err("a list of numbers has another type".into()),
    }
}

/// Numbers of eight bytes, packed or single.
fn fixed64(field: Field<'_>, budget: &Budget) -> Result<Vec<u64>> {
    match field {
        Field::Fixed64(bits) => budget.spend(1).map(|()| vec![bits]),
        Field::Bytes(packed) => {
            let (chunks, rest) = packed.as_chunks::<8>();
            budget.spend(chunks.len())?;
            if rest.is_empty() {
                Ok(chunks.iter().map(|c| u64::from_le_bytes(*c)).collect())
            } else {
                Err("a list of numbers is cut off".into())
            }
        }
        Field::Varint(_) | Field::Fixed32(_) => Err("a list of numbers has another type".into()),
    }
}

/// Whole numbers, packed or single.
fn varints(field: Field<'_>, budget: &Budget) -> Result<Vec<u64>> {
    match field {
        Field::Varint(int) => budget.spend(1).map(|()| vec![int]),
        Field::Bytes(mut packed) => {
            let mut ints = Vec::new();
            while !packed.is_empty() {
                budget.spend(1)?;
                ints.push(varint(&mut packed)?);
            }
            Ok(ints)
        }
        Field::Fixed64(_) | Field::Fixed32(_) => Err("a list of whole numbers has another type".into()),
    }
}
