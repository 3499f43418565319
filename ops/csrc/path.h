// Which of several ways to the same product is taken: chosen by cost, or by the environment.
#pragma once

#include <optional>

namespace deepthin {

// DEEPTHIN_OPS_PATH names ways that sessions created from then on must take, with commas between them: `direct` or `fft`
// for the correlation, `rows` or `lanes` for batches. What it does not name is chosen by cost.
struct ForcedPath {
  std::optional<bool> fft, lanes;

  // Throws std::runtime_error where a word names no way.
  static ForcedPath from_environment();
};

}  // namespace deepthin
