COMMENT ON COLUMN ops.archive.content_hash IS 'Order-independent hash of the rows: the sum of their MD5 sums, the two halves modulo 2^64. Equal for the source rows and the re-read file.';
