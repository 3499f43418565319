#include "path.h"

#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>

namespace deepthin {

ForcedPath ForcedPath::from_environment() {
  ForcedPath forced;
  const char* wish = std::getenv("DEEPTHIN_OPS_PATH");
  std::istringstream words(wish ? wish : "");
  for (std::string word; std::getline(words, word, ',');) {
    if (word == "direct" || word == "fft")
      forced.fft = word == "fft";
    else if (word == "rows" || word == "lanes")
      forced.lanes = word == "lanes";
    else
      throw std::runtime_error("DEEPTHIN_OPS_PATH=" + std::string(wish) + ": " + word +
                               " is none of direct, fft, rows and lanes");
  }
  return forced;
}

}  // namespace deepthin
