//! The checker finds each defect that is planted in a good tree.
