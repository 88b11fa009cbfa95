// Containers on tags: by std::pmr and a tally::MemoryResource, and by a tally::Allocator. A catalog
// of documents is under one tag with all that is in it, its index under another, and neither needs
// a scope to be open.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <memory_resource>
#include <string>
#include <string_view>
#include <tally/memory.hpp>
#include <utility>
#include <vector>

namespace {

// The tag as a part of the type: made at its first use, and no byte in the containers.
using IndexTag = tally::NamedTag<"catalog/index">;
template <class T>
using IndexAllocator = tally::Allocator<T, IndexTag>;
using Word = std::basic_string<char, std::char_traits<char>, IndexAllocator<char>>;
using Places = std::vector<uint32_t, IndexAllocator<uint32_t>>;
using Index = std::map<Word, Places, std::less<>, IndexAllocator<std::pair<const Word, Places>>>;
static_assert(sizeof(Places) == sizeof(std::vector<uint32_t>));

// Passes the resource on to what it holds, as the containers of std::pmr do.
struct Document {
  using allocator_type = std::pmr::polymorphic_allocator<>;
  explicit Document(allocator_type a) : title(a), words(a) {}
  Document(Document&& other, allocator_type a)
      : title(std::move(other.title), a), words(std::move(other.words), a) {}
  Document(Document&&) = default;

  std::pmr::string title;
  std::pmr::vector<std::pmr::string> words;
};

class Catalog {
 public:
  explicit Catalog(tally::Tag tag) : resource_(tag) {}

  void add(std::string_view title, uint32_t words) {
    const auto id = static_cast<uint32_t>(documents_.size());
    Document& document = documents_.emplace_back();
    document.title = title;
    for (uint32_t n = 0; n < words; ++n) {
      const std::string word = "a word of some length, " + std::to_string((id * 31 + n) % 500);
      document.words.emplace_back(word);
      index_[Word(word)].push_back(id);
    }
  }
  size_t documents() const { return documents_.size(); }
  size_t places(std::string_view word) const { return index_.find(word)->second.size(); }

  // A copy for the caller: its memory is the caller's, too.
  std::pmr::vector<std::pmr::string> words_of(size_t document) const {
    return documents_[document].words;
  }

 private:
  tally::MemoryResource resource_;  // before what uses it
  std::pmr::vector<Document> documents_{&resource_};
  Index index_;
};

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const tally::Tag documents = tally::Tag::create("/catalog/documents");
  const tally::Tag index = IndexTag::tag();
  const tally::Tag whole = tally::Tag::find("/catalog");
  bool ok = true;
  {
    // The object, its counts and what it makes as it is made are one tag's.
    const auto catalog = std::allocate_shared<Catalog>(
        tally::Allocator<Catalog>(tally::Tag::create("/catalog")), documents);
    for (int n = 0; n < 500; ++n)
      catalog->add("A title that needs memory, " + std::to_string(n), 40);

    const uint64_t blocks = documents.stats().own.live_blocks;
    const uint64_t in_documents = documents.stats().own.live_bytes;
    const uint64_t in_index = index.stats().own.live_bytes;
    std::cout << catalog->documents() << " documents: " << in_documents / 1024 << " KiB in "
              << blocks << " blocks; the index: " << in_index / 1024 << " KiB\n";

    // The titles, the lists of words, the words; and the list of documents.
    ok &= holds(blocks == 500 + 500 + 500 * 40 + 1, "each block of a document is its tag's");
    ok &= holds(index.stats().own.live_blocks == 500 * 3,
                "each word, list and node of the index is its tag's");
    ok &= holds(catalog->places("a word of some length, 7") == 40, "the index is right");

    const auto words = catalog->words_of(7);
    ok &= holds(words.size() == 40 && documents.stats().own.live_blocks == blocks,
                "a copy is not the catalog's");
    ok &= holds(whole.stats().total.live_bytes > in_documents + in_index,
                "the tag above has all of it, and the catalog's own block");
  }
  std::cout << "without the catalog: " << whole.stats().total.live_bytes << " bytes\n";
  ok &= holds(whole.stats().total.live_bytes == 0, "all of it goes back");
  return ok ? 0 : 1;
}
