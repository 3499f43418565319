// The gate arithmetic of a recurrent step; kernels.inl includes it.

template <typename Step>
DEEPTHIN_INLINE void for_each_vector(size_t H, Step step) {
  size_t i = 0;
  for (; i + W <= H; i += W)
    step([i](const float* p) { return load(p + i); }, [i](float* p, Vec v) { store(p + i, v); });
  if (i < H) {
    const size_t rest = H - i;
    step([i, rest](const float* p) { return load_part(p + i, rest); },
         [i, rest](float* p, Vec v) { store_part(p + i, v, rest); });
  }
}

void gru_step(const GruGates& g) {
  for_each_vector(g.H, [&g](auto get, auto put) {
    const Vec update = sigmoid(get(g.gz) + get(g.uz)), reset = sigmoid(get(g.gr) + get(g.ur));
    const Vec candidate = hyperbolic_tangent(get(g.gh) + reset * get(g.uh));
    put(g.out, candidate + update * (get(g.state) - candidate));
  });
}

void gru_reset(const GruGates& g) {
  for_each_vector(g.H, [&g](auto get, auto put) { put(g.out, sigmoid(get(g.gr) + get(g.ur)) * get(g.state)); });
}

void gru_finish(const GruGates& g) {
  for_each_vector(g.H, [&g](auto get, auto put) {
    const Vec update = sigmoid(get(g.gz) + get(g.uz)), candidate = hyperbolic_tangent(get(g.gh) + get(g.uh));
    put(g.out, candidate + update * (get(g.state) - candidate));
  });
}

void lstm_step(const LstmGates& g) {
  for_each_vector(g.H, [&g](auto get, auto put) {
    const Vec opened = sigmoid(get(g.gi) + get(g.ui)), kept = sigmoid(get(g.gf) + get(g.uf));
    const Vec cell = kept * get(g.cell) + opened * hyperbolic_tangent(get(g.gc) + get(g.uc));
    put(g.cell, cell);
    put(g.out, sigmoid(get(g.go) + get(g.uo)) * hyperbolic_tangent(cell));
  });
}

constexpr GateKernels kGates = {gru_step, gru_reset, gru_finish, lstm_step};
