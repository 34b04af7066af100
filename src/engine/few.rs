//! A list that mostly has one element, which then lies in the list itself: an allocation costs memory, and
//! whoever follows its pointer waits for it.

use std::mem::size_of;
use std::ops::{Deref, DerefMut};

/// A list of any length.
pub(super) enum Few<T> {
    One(T),
    /// Any other number.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds one at the end.
    pub(super) fn push(&mut self, more: T) {
        *self = match std::mem::take(self) {
            Self::One(first) => Self::Many(vec![first, more]),
            Self::Many(all) if all.is_empty() => Self::One(more),
            Self::Many(mut all) => {
                // None to spare.
                all.reserve_exact(1);
                all.push(more);
                Self::Many(all)
            }
        };
    }

    /// Memory beside itself, and beside what the elements have of their own.
    pub(super) fn heap(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(all) => all.capacity() * size_of::<T>(),
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut few = Self::default();
        elements.into_iter().for_each(|element| few.push(element));
        few
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(all) => all,
        }
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Few<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list() {
        for len in 0..5 {
            let mut few: Few<usize> = (0..len).collect();
            assert_eq!(*few, *(0..len).collect::<Vec<_>>());
            few.iter_mut().for_each(|element| *element += 1);
            assert_eq!(few.iter().sum::<usize>(), len * (len + 1) / 2);
            assert_eq!(few.heap() == 0, len < 2);
        }
    }
}
