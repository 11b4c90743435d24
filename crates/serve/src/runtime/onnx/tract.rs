//! Any other graph, by tract. Only built with the feature `onnx`.
//!
//! The file was read by [`super::proto`] before: its weights are in it, its inputs are numbers, its answer has a name. Whatever tract does with it
//! happens on a thread whose panic is an error of the caller.

use super::{Slot, proto};
use std::sync::Arc;
use tract_onnx::prelude::*;

/// A graph that runs, a fixed number of rows at a time.
pub struct Plan {
    slots: Vec<Slot>,
    model: Arc<TypedRunnableModel>,
}

impl Plan {
    /// Makes a plan that gives one value of a graph, and the width of that value.
    pub fn of(bytes: &[u8], slots: &[Slot], answer: &str) -> Result<(Plan, usize), String> {
        let plan = || -> TractResult<TypedModel> {
            let mut model = tract_onnx::onnx().model_for_read(&mut &bytes[..])?;
            for slot in slots {
                let kind = match slot.kind {
                    proto::DOUBLE => f64::datum_type(),
                    proto::INT32 => i32::datum_type(),
                    proto::INT64 => i64::datum_type(),
                    proto::BOOL => bool::datum_type(),
                    _ => f32::datum_type(),
                };
                let input = model.input_outlets()?.iter().position(|outlet| model.node(outlet.node).name == slot.name);
                let input = input.ok_or_else(|| TractError::msg(format!("there is no input {}", slot.name)))?;
                model.set_input_fact(input, InferenceFact::dt_shape(kind, tvec!(1, slot.width)))?;
            }
            let outlet = model.find_outlet_label(answer).ok_or_else(|| TractError::msg(format!("there is no output {answer}")))?;
            model.select_output_outlets(&[outlet])?;
            model.into_optimized()
        };
        // The innermost cause is the one that names the operator.
        let shown = |e: TractError| e.root_cause().to_string().chars().take(200).collect::<String>();
        let model = plan().map_err(shown)?;
        let given = model.output_fact(0).map_err(shown)?.shape.as_concrete().map(|shape| shape.iter().product::<usize>());
        let given = given.ok_or("the size of its answer depends on what it is asked")?;
        let inputs = model.inputs.iter().map(|outlet| model.node(outlet.node).name.clone()).collect::<Vec<String>>();
        let slots = inputs.iter().filter_map(|name| slots.iter().find(|slot| slot.name == *name)).cloned().collect();
        Ok((Plan { slots, model: model.into_runnable().map_err(shown)? }, given))
    }

    /// The answers of some rows, both one row behind the other.
    pub fn run(&self, matrix: &[f64], rows: usize, given: usize) -> Result<Vec<f64>, String> {
        let width = matrix.len().checked_div(rows).unwrap_or(0);
        let mut answers = Vec::with_capacity(rows * given);
        for row in 0..rows {
            let row = &matrix[row * width..(row + 1) * width];
            let answer = self.row(row).map_err(|e| e.root_cause().to_string())?;
            if answer.len() != given {
                return Err(format!("{} numbers instead of {given}", answer.len()));
            }
            answers.extend(answer);
        }
        Ok(answers)
    }

    fn row(&self, row: &[f64]) -> TractResult<Vec<f64>> {
        let tensor = |slot: &Slot| {
            let numbers = &row[slot.from..slot.from + slot.width];
            let tensor = match slot.kind {
                proto::DOUBLE => tensor1(numbers),
                proto::INT32 => tensor1(&numbers.iter().map(|x| *x as i32).collect::<Vec<i32>>()),
                proto::INT64 => tensor1(&numbers.iter().map(|x| *x as i64).collect::<Vec<i64>>()),
                proto::BOOL => tensor1(&numbers.iter().map(|x| *x != 0.0).collect::<Vec<bool>>()),
                _ => tensor1(&numbers.iter().map(|x| *x as f32).collect::<Vec<f32>>()),
            };
            tensor.into_shape(&[1, slot.width]).map(Into::into)
        };
        let inputs = self.slots.iter().map(tensor).collect::<TractResult<TVec<TValue>>>()?;
        let outputs = self.model.run(inputs)?;
        let answer = outputs[0].cast_to::<f64>()?;
        Ok(answer.to_plain_array_view::<f64>()?.iter().copied().collect())
    }
}
