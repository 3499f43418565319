#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace deepthin {
namespace {

#if defined(__x86_64__)
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }
bool runs_avx512() { return __builtin_cpu_supports("avx512f"); }
#else
bool runs_avx2() { return false; }
bool runs_avx512() { return false; }
#endif

std::vector<const Kernels*> find_kernels() {
  std::vector<const Kernels*> found;
  if (avx512_kernels() && runs_avx512()) found.push_back(avx512_kernels());
  if (avx2_kernels() && runs_avx2()) found.push_back(avx2_kernels());
  if (neon_kernels()) found.push_back(neon_kernels());  // every aarch64 processor has it
  found.push_back(scalar_kernels());
  return found;
}

const std::vector<const Kernels*>& found_kernels() {
  static const std::vector<const Kernels*> found = find_kernels();
  return found;
}

}  // namespace

const char* available_kernels() {
  static const std::string names = [] {
    std::string joined;
    for (const Kernels* kernels : found_kernels()) joined += (joined.empty() ? "" : ",") + std::string(kernels->name);
    return joined;
  }();
  return names.c_str();
}

const Kernels& choose_kernels() {
  const char* wish = std::getenv("DEEPTHIN_OPS_ISA");
  if (!wish || !*wish) return *found_kernels().front();
  for (const Kernels* kernels : found_kernels())
    if (std::string(kernels->name) == wish) return *kernels;
  throw std::runtime_error("DEEPTHIN_OPS_ISA=" + std::string(wish) +
                           " names no instruction set that can run here; it can be one of " + available_kernels());
}

}  // namespace deepthin
