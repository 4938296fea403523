//! What the grammar says of a place in a file: which keys and values may stand there.

use super::cursor::Segment;
use crate::workflow::check::{Keys, Shape, Survey, WORKFLOW, survey};
use crate::workflow::types::Type;

const ROOT: &[Shape] = &[Shape::Keys(&WORKFLOW)];

/// A place, as far as the grammar knows it.
#[derive(Debug)]
pub(super) struct Place<'s> {
    /// What may stand there.
    pub(super) stand: Stand,
    /// The step that it belongs to, where the file has such a step.
    pub(super) step: Option<&'s survey::Step>,
    pub(super) survey: &'s Survey,
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
            [Segment::Key(section), Segment::Key(outer), rest @ ..]
                if section == "steps" || section == "finally" =>
            {
                match rest {
                    [Segment::Key(body), Segment::Key(name), ..] if body == "steps" => survey.steps.get(name),
                    _ => survey.steps.get(outer),
                }
            }
            _ => None,
        };
        let mut place = Self { stand: Stand::Grammar(ROOT), step, survey };
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
            (Shape::Kinds(kinds), Segment::Key(name)) => {
                Stand::Grammar(kinds.iter().find_map(|keys| keys.find(name))?.shapes)
            }
            (Shape::Named(shapes), Segment::Key(_))
            | (Shape::List(shapes) | Shape::Items(shapes), Segment::Item) => Stand::Grammar(shapes),
            (Shape::Slots, Segment::Key(_)) => Stand::Grammar(&[Shape::Secret]),
            (Shape::SandboxParameters, Segment::Key(_)) => Stand::Grammar(&[Shape::Sandbox]),
            (Shape::Arguments, Segment::Key(name)) => {
                let parameters = self.step?.parameters();
                Stand::Typed(parameters.into_iter().find(|parameter| parameter.name == *name)?.ty)
            }
            (Shape::Inputs, Segment::Key(name)) => Stand::Typed(self.survey.inputs.get(name)?.ty.clone()?),
            _ => return None,
        })
    }

    /// The item of the loop that it belongs to.
    pub(super) fn loop_item(&self) -> Option<&'s survey::Item> {
        let step = self.step?;
        let outer = step.group.as_ref().and_then(|group| self.survey.steps.get(group));
        outer.unwrap_or(step).item()
    }

    /// The shapes that a value may have here; one item of a list may stand alone.
    pub(super) fn shapes(&self) -> Vec<Shape> {
        let Stand::Grammar(shapes) = self.stand else { return Vec::new() };
        let alone =
            |shape: &Shape| if let Shape::List(items) = shape { items.to_vec() } else { vec![*shape] };
        shapes.iter().flat_map(alone).collect()
    }
}

/// Which of several kinds of mapping one with these keys is: those whose first key it has, and all where it has none.
pub(super) fn kinds(
    kinds: &'static [&'static Keys],
    has: &[String],
    step: Option<&survey::Step>,
) -> Vec<&'static Keys> {
    let first = |keys: &Keys| keys.names().next();
    let told = |keys: &&&'static Keys| first(keys).is_some_and(|first| has.iter().any(|key| key == first));
    let found: Vec<&'static Keys> = kinds.iter().filter(told).copied().collect();
    match (found.as_slice(), step.map(|step| &step.does)) {
        ([], _) => kinds.to_vec(),
        // Both begin with `uses`; what it names says which of them it is.
        ([_, workflow], Some(survey::Does::Workflow { .. })) => vec![workflow],
        ([call, ..], _) => vec![call],
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
