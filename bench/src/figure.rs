//! The figures of a report, as data: which there are, and what others published of them.
//! The rows say where they stand in them.

use serde::{Deserialize, Serialize};

use crate::table::Name;

/// One figure. Rows with an `x` become lines, one a series; without, bars, one a row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figure {
    /// What rows call it. A number is that of the paper's figure.
    pub id: Name,
    /// What is shown.
    pub title: Name,
    /// Of the axis that rows' `x` is on, with its unit.
    #[serde(default)]
    pub x: Name,
    /// Of the other axis, with its unit.
    pub y: Name,
    /// The axis of `x` is logarithmic.
    #[serde(default)]
    pub is_x_logarithmic: bool,
    /// The other axis is.
    #[serde(default)]
    pub is_y_logarithmic: bool,
    /// How it was measured, and what there is to see.
    #[serde(default)]
    pub caption: Name,
}

/// A number that others published, measured on hardware of theirs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Quoted {
    /// Whose.
    pub source: Name,
    /// Of what.
    pub name: Name,
    /// Of the number.
    pub unit: Name,
    /// The number.
    pub value: f64,
    /// The figure that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<Name>,
    /// There, where on the axis; without, it is a bar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
}
