// The gate arithmetic of recurrent layers, once per instruction set.
#pragma once

#include <cstddef>

namespace deepthin {

// Gate arithmetic of one GRU step for one row: H values per gate, each pointer already at its gate's block.
struct GruGates {
  size_t H;
  const float *gz, *gr, *gh;  // input projections, input bias added
  const float *uz, *ur, *uh;  // recurrent projections, recurrent bias added
  const float* state;
  float* out;
};

// The same of an LSTM; `cell` is read and written.
struct LstmGates {
  size_t H;
  const float *gi, *go, *gf, *gc;
  const float *ui, *uo, *uf, *uc;
  float *cell, *out;
};

struct GateKernels {
  // A whole GRU step (reset after the recurrent product), or its two halves (reset before it).
  void (*gru_step)(const GruGates&);
  void (*gru_reset)(const GruGates&);   // out = sigmoid(gr + ur) * state
  void (*gru_finish)(const GruGates&);  // uh was computed from the reset state

  void (*lstm_step)(const LstmGates&);
};

}  // namespace deepthin
