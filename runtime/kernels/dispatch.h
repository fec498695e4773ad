#pragma once
#include "kernels.h"

namespace quoit {

// The kernels that run on this CPU; null if there are none for it.
const Kernels* kernels();

}  // namespace quoit
