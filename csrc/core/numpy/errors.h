#pragma once

namespace strop {

// Makes this module's ArgumentErrors ValueErrors or TypeErrors.
void register_errors();

}  // namespace strop
