"""The model of codes: sequence layout, vocabulary, conditions, guidance, masking and sampling."""
