#include "core/numpy/call.h"

#include <algorithm>
#include <sstream>

namespace py = pybind11;

namespace strop {
namespace {

// "op(a, b, c=None)" -> a, b, c
std::vector<std::string> names_in(const std::string& signature) {
  const auto open = signature.find('('), close = signature.rfind(')');
  std::istringstream list(signature.substr(open + 1, close - open - 1));
  std::vector<std::string> names;
  for (std::string name; std::getline(list, name, ',');) {
    const auto first = name.find_first_not_of(' ');
    names.push_back(name.substr(first, name.find('=') - first));
  }
  return names;
}

}  // namespace

Arguments::Arguments(const std::string& signature, const py::args& args, const py::kwargs& options)
    : left_(options.attr("copy")().cast<py::dict>()) {
  const std::vector<std::string> names = names_in(signature);
  const std::string op = signature.substr(0, signature.find('('));
  if (args.size() > names.size()) {
    throw_type_error("strop.", op, ": takes ", names.size(), " arguments, not ", args.size());
  }
  for (const auto& item : left_) {
    const auto given = item.first.cast<std::string>();
    if (std::find(names.begin(), names.end(), given) != names.end()) continue;
    throw_type_error("strop.", op, ": there is no argument ", given);
  }
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (left_.contains(names[i])) throw_type_error("strop.", op, ": ", names[i], " is given twice");
    left_[names[i].c_str()] = args[i];
  }
}

py::object Arguments::take(const char* name) {
  if (!left_.contains(name)) return py::none();
  return left_.attr("pop")(name);
}

}  // namespace strop
