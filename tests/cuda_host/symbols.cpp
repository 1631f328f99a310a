#include "cuda_host/symbols.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <vector>

namespace strop::cuda_host {
namespace {

struct Symbol {
  std::uintptr_t begin;
  std::size_t bytes;
  bool writable;
  const char* name;
};

// This library as it is loaded, and its file's table of symbols: the dynamic linker keeps none of
// local objects, which static shared memory is made of.
class Library {
 public:
  static const Library& self() {
    static const Library library;
    return library;
  }

  const std::string& path() const { return path_; }
  std::uintptr_t base() const { return base_; }

  const Symbol* at(std::uintptr_t address) const {
    const auto after = std::upper_bound(
        symbols_.begin(), symbols_.end(), address,
        [](std::uintptr_t where, const Symbol& symbol) { return where < symbol.begin; });
    if (after == symbols_.begin()) return nullptr;
    const Symbol& symbol = *std::prev(after);
    return address < symbol.begin + symbol.bytes ? &symbol : nullptr;
  }

  bool is_constant(std::uintptr_t address) const {
    return std::any_of(constants_.begin(), constants_.end(), [&](const auto& range) {
      return address >= range.begin && address - range.begin < range.bytes;
    });
  }

 private:
  Library() {
    Dl_info found;
    if (dladdr(reinterpret_cast<const void*>(&object_at), &found) == 0) std::abort();
    path_ = found.dli_fname;
    base_ = reinterpret_cast<std::uintptr_t>(found.dli_fbase);
    std::ifstream stream(path_, std::ios::binary);
    file_.assign(std::istreambuf_iterator<char>(stream), {});
    const auto* const header = reinterpret_cast<const ElfW(Ehdr)*>(file_.data());
    const auto* const segments =
        reinterpret_cast<const ElfW(Phdr)*>(file_.data() + header->e_phoff);
    for (int i = 0; i < header->e_phnum; ++i) {
      if (segments[i].p_type != PT_LOAD || (segments[i].p_flags & PF_W) != 0) continue;
      constants_.push_back({base_ + segments[i].p_vaddr, segments[i].p_memsz, false, ""});
    }
    const auto* const sections =
        reinterpret_cast<const ElfW(Shdr)*>(file_.data() + header->e_shoff);
    for (int i = 0; i < header->e_shnum; ++i) {
      if (sections[i].sh_type == SHT_SYMTAB) read(sections, sections[i], header->e_shnum);
    }
    std::sort(symbols_.begin(), symbols_.end(),
              [](const Symbol& a, const Symbol& b) { return a.begin < b.begin; });
  }

  void read(const ElfW(Shdr) * sections, const ElfW(Shdr) & table, int count) {
    const char* const names = file_.data() + sections[table.sh_link].sh_offset;
    const auto* const symbols = reinterpret_cast<const ElfW(Sym)*>(file_.data() + table.sh_offset);
    for (std::size_t i = 0; i < table.sh_size / sizeof(ElfW(Sym)); ++i) {
      const ElfW(Sym) & symbol = symbols[i];
      // (the type's macro is the same for both widths)
      if (ELF64_ST_TYPE(symbol.st_info) != STT_OBJECT || symbol.st_size == 0) continue;
      if (symbol.st_shndx >= count) continue;
      const bool writable = (sections[symbol.st_shndx].sh_flags & SHF_WRITE) != 0;
      symbols_.push_back({base_ + symbol.st_value, static_cast<std::size_t>(symbol.st_size),
                          writable, names + symbol.st_name});
    }
  }

  std::string path_;
  std::uintptr_t base_ = 0;
  std::string file_;
  std::vector<Symbol> symbols_;
  std::vector<Symbol> constants_;
};

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : name;
}

std::string without_anonymous(std::string name) {
  constexpr const char* kAnonymous = "(anonymous namespace)::";
  for (std::size_t at; (at = name.find(kAnonymous)) != std::string::npos;) {
    name.erase(at, std::strlen(kAnonymous));
  }
  return name;
}

// "void a::(anonymous namespace)::f<float>(int)" -> "f".
std::string short_name(const std::string& full) {
  const std::string function = without_anonymous(full);
  std::string plain;  // without template arguments
  int depth = 0;
  for (const char c : function) {
    if (c == '<') ++depth;
    if (depth == 0) plain += c;
    if (c == '>') --depth;
  }
  plain.erase(std::min(plain.find('('), plain.size()));
  return plain.substr(plain.find_last_of(": ") + 1);
}

// addr2line's two lines for each frame, innermost first: a function, a place. What is inlined from
// the headers that stand for CUDA's is no place of interest.
std::string frames(std::istream& lines) {
  std::string text, function, place;
  while (std::getline(lines, function) && std::getline(lines, place)) {
    place = base_name(place.substr(0, place.find(" (")));
    if (place.rfind("cuda_runtime.h:", 0) == 0) continue;
    text += (text.empty() ? "" : " <- ") + place + " " + short_name(function);
  }
  return text.empty() ? place : text;
}

}  // namespace

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

Object object_at(std::uintptr_t address) {
  const Symbol* const symbol = Library::self().at(address);
  if (symbol == nullptr) return {};
  const std::string name = without_anonymous(demangled(symbol->name));
  const auto scope = name.rfind("::");
  const std::string last = scope == std::string::npos ? name : name.substr(scope + 2);
  return {symbol->begin, symbol->bytes, symbol->writable, name.find(")::") != std::string::npos,
          last};
}

bool is_constant(std::uintptr_t address) { return Library::self().is_constant(address); }

std::string describe(CodeAddress address) {
  const Library& library = Library::self();
  std::ostringstream command;
  command << "addr2line -f -C -i -e '" << library.path() << "' 0x" << std::hex
          << address - library.base() << " 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.str().c_str(), "r"), &pclose);
  std::string output;
  char part[512];
  while (pipe != nullptr && fgets(part, sizeof part, pipe.get()) != nullptr) output += part;
  std::istringstream lines(output);
  return frames(lines);
}

}  // namespace strop::cuda_host
