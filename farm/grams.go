package farm

// Grams is a weight in whole milligrams: grams with at most three decimals, kept exactly, never a binary
// fraction. In JSON it is a number of grams: 1000 mg is 1, 12500 mg is 12.5.
type Grams int64

// Gram is one gram.
const Gram Grams = 1000
