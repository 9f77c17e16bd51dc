"""From clips and metrics to numbers: how takes are counted, and how sure the numbers are."""
