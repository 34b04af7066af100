//! Several inputs as one, in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Arrival, Data, Error, Input};
use crate::model::{Batch, MetricPoint, Timestamp};

/// What comes next of all inputs.
#[derive(Debug)]
pub enum Stretch {
    /// Points that arrive at their own times, which do not fall.
    Points(Vec<MetricPoint>),
    /// A request that arrives at a time.
    Batch(Timestamp, Batch),
}

/// Inputs, merged by time; what is of one time comes in the order of the inputs.
pub struct Merged {
    inputs: Vec<Input>,
    /// What each gives next.
    heads: Vec<Option<Arrival>>,
    order: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl Merged {
    /// Reads the first of each.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn new(mut inputs: Vec<Input>) -> Result<Self, Error> {
        let mut heads = Vec::new();
        let mut order = BinaryHeap::new();
        for (number, input) in inputs.iter_mut().enumerate() {
            let head = input.next_arrival()?;
            order.extend(head.as_ref().map(|head| Reverse((head.at, number))));
            heads.push(head);
        }
        Ok(Self {
            inputs,
            heads,
            order,
        })
    }

    /// The time of what comes next; `None` at the end.
    pub fn next_time(&self) -> Option<Timestamp> {
        self.order.peek().map(|Reverse((at, _))| *at)
    }

    /// The inputs, for what they noted.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// What comes next: a request, or at most `most` points. `None` at the end.
    ///
    /// # Errors
    /// An input cannot be read further.
    pub fn next(&mut self, most: usize) -> Result<Option<Stretch>, Error> {
        let mut points = Vec::new();
        while points.len() < most
            && let Some(Reverse((_, number))) = self.order.pop()
        {
            let Some(head) = self.heads.get_mut(number) else {
                continue;
            };
            match head.take() {
                Some(Arrival {
                    at,
                    data: Data::Batch(batch),
                }) => {
                    if points.is_empty() {
                        self.refill(number)?;
                        return Ok(Some(Stretch::Batch(at, *batch)));
                    }
                    // After the points before it.
                    *head = Some(Arrival {
                        at,
                        data: Data::Batch(batch),
                    });
                    self.order.push(Reverse((at, number)));
                    break;
                }
                Some(Arrival {
                    data: Data::Point(point),
                    ..
                }) => {
                    points.push(point);
                    self.follow(number, &mut points, most)?;
                }
                None => {}
            }
        }
        Ok((!points.is_empty()).then_some(Stretch::Points(points)))
    }

    /// Takes on from one input as long as it is the first, without asking the heap each time.
    fn follow(
        &mut self,
        number: usize,
        points: &mut Vec<MetricPoint>,
        most: usize,
    ) -> Result<(), Error> {
        let Some(input) = self.inputs.get_mut(number) else {
            return Ok(());
        };
        let next = self.order.peek().map(|Reverse(next)| *next);
        while points.len() < most {
            match input.next_arrival()? {
                Some(Arrival {
                    at,
                    data: Data::Point(point),
                }) if next.is_none_or(|next| (at, number) < next) => points.push(point),
                other => return self.put_back(number, other),
            }
        }
        self.refill(number)
    }

    fn refill(&mut self, number: usize) -> Result<(), Error> {
        let next = match self.inputs.get_mut(number) {
            Some(input) => input.next_arrival()?,
            None => None,
        };
        self.put_back(number, next)
    }

    fn put_back(&mut self, number: usize, next: Option<Arrival>) -> Result<(), Error> {
        self.order
            .extend(next.as_ref().map(|next| Reverse((next.at, number))));
        if let Some(head) = self.heads.get_mut(number) {
            *head = next;
        }
        Ok(())
    }
}
