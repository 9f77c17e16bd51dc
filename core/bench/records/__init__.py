"""What benchmarks leave: figures, records, comparisons, tables."""
