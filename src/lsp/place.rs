//! What the grammar says of a place in a file: which keys and values may stand there.

use super::cursor::Segment;
use crate::workflow::check::{Shape, Survey, WORKFLOW, survey};
use crate::workflow::types::Type;

const ROOT: &[Shape] = &[Shape::Keys(&WORKFLOW)];

/// A place, as far as the grammar knows it.
#[derive(Debug)]
pub(super) struct Place<'s> {
    /// What may stand there.
    pub(super) stand: Stand,
    /// The step that it belongs to, where the file has such a step.
    pub(super) step: Option<&'s survey::Step>,
}

/// What may stand at a place.
#[derive(Clone, Debug)]
pub(super) enum Stand {
    /// What the grammar allows.
    Grammar(&'static [Shape]),
    /// A value of this type, of an argument.
    Typed(Type),
    /// Nobody knows.
    Unknown,
}

impl<'s> Place<'s> {
    /// The place at the end of a path.
    pub(super) fn of(path: &[Segment], survey: &'s Survey) -> Self {
        let step = match path {
            [Segment::Key(section), Segment::Key(name), ..] if section == "steps" || section == "finally" => {
                survey.steps.get(name)
            }
            _ => None,
        };
        let mut place = Self { stand: Stand::Grammar(ROOT), step };
        for segment in path {
            place.stand = match &place.stand {
                Stand::Grammar(shapes) => {
                    shapes.iter().find_map(|shape| place.below(shape, segment)).unwrap_or(Stand::Unknown)
                }
                Stand::Typed(ty) => inside(ty, segment).map_or(Stand::Unknown, Stand::Typed),
                Stand::Unknown => Stand::Unknown,
            };
        }
        place
    }

    fn below(&self, shape: &Shape, segment: &Segment) -> Option<Stand> {
        Some(match (shape, segment) {
            (Shape::Keys(keys), Segment::Key(name)) => Stand::Grammar(keys.find(name)?.shapes),
            (Shape::Named(shapes), Segment::Key(_)) | (Shape::List(shapes), Segment::Item) => {
                Stand::Grammar(shapes)
            }
            (Shape::Slots, Segment::Key(_)) => Stand::Grammar(&[Shape::Secret]),
            (Shape::SandboxParameters, Segment::Key(_)) => Stand::Grammar(&[Shape::Sandbox]),
            (Shape::Arguments, Segment::Key(name)) => {
                let parameters = &self.step?.function()?.parameters;
                Stand::Typed(parameters.iter().find(|parameter| parameter.name == *name)?.ty.clone())
            }
            _ => return None,
        })
    }

    /// The shapes that a value may have here; one item of a list may stand alone.
    pub(super) fn shapes(&self) -> Vec<Shape> {
        let Stand::Grammar(shapes) = self.stand else { return Vec::new() };
        let alone =
            |shape: &Shape| if let Shape::List(items) = shape { items.to_vec() } else { vec![*shape] };
        shapes.iter().flat_map(alone).collect()
    }
}

/// The type of a part of a value.
fn inside(ty: &Type, segment: &Segment) -> Option<Type> {
    match (ty, segment) {
        (Type::Option(inner), _) => inside(inner, segment),
        (Type::Record(fields), Segment::Key(name)) => {
            fields.iter().find(|field| field.name == *name).map(|field| field.ty.clone())
        }
        (Type::Variant(cases), Segment::Key(name)) => cases.iter().find(|(case, _)| case == name)?.1.clone(),
        (Type::Map(value), Segment::Key(_)) => Some((**value).clone()),
        (Type::List(item), Segment::Item) => Some((**item).clone()),
        _ => None,
    }
}
