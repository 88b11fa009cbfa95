// The parts of the page in their order: what each picture means, and what to do about it.
export const PARTS = [
  {
    id: "ledger", name: "RSS", title: "Where the resident memory goes", wide: "narrow", unfiltered: true,
    short: "RSS, from its parts on the left to the sum at the bottom.",
    means: "Live blocks are what the program holds. Free in slabs is what lies between them and cannot go back yet. Free "
      + "pages and spans wait to go back. Files, shared and other are no heap: code, stacks, mappings of the program's own.",
    todo: "A long bar of live blocks: see the tags and stacks. Free in slabs: see fragmentation. Free pages: tally trim gives "
      + "them back at once. Other: tally ledger PID splits it while the process runs.",
  },
  {
    id: "tags", name: "Tags", title: "Who holds it", wide: "broad",
    short: "Each tag as an area as large as what it holds; within it those below it. A click goes inside, the path below goes back out.",
    means: "A tag is a part of the program, named by it or by the library that allocates. The footprint is what a tag costs "
      + "in slabs and large blocks; live is what it holds of that. The area “own” is a tag's alone.",
    todo: "Go into the largest one, and choose it as the filter above: all pictures then show it alone. If it has no limit "
      + "and should have one: tally limit PID TAG SIZE.",
  },
  {
    id: "time", name: "Time", title: "Bytes by tag over time", wide: "full",
    short: "The largest tags on top of each other, RSS as the dashed line. Marks below are events at limits. Drag the handles, or Ctrl and the wheel, to zoom.",
    means: "The last minutes are in seconds, what is before in minutes, up to a day back. A band that widens grows. A gap "
      + "between the bands and RSS is what is no heap, or waits to go back. Each moment knows its 60 largest tags.",
    todo: "A band that grows without end is a leak or a cache without a bound: filter by it and look at growth and stale "
      + "stacks. Steps at the same time as events show what a limit did.",
  },
  {
    id: "stacks", name: "Stacks", title: "Which code allocated it", wide: "full", profile: true,
    short: "Each box is a function, as wide as what it and those that it calls allocated. A click zooms in.",
    means: "The amounts are estimates from samples, without bias. Live is not freed yet; allocated is all since sampling "
      + "began; peak what was live when most was; growth what is live now and was not at half to three quarters of the time "
      + "back. Colours are libraries.",
    todo: "For a leak look at growth, wide boxes at the end of a stack. For speed look at allocated, in blocks. Search a "
      + "function to see what it holds in all places together.",
  },
  {
    id: "stale", name: "Stale", title: "What has been there for long", wide: "full", profile: true,
    short: "Stacks whose blocks have been live for longer than an age. Open a row for its stack.",
    means: "Old blocks are what a program needs for good: tables, caches, its configuration; or what it forgot. A stack of "
      + "which all is old was allocated once; one of which some is old and more comes is the one to suspect.",
    todo: "Sort by bytes, and ask of each row who should have freed it. Compare with growth above: stale and growing is a leak.",
  },
  {
    id: "fragmentation", name: "Fragmentation", title: "Taken and not in use", wide: "broad",
    short: "Free bytes in slabs, by tag and size of block; the darker or brighter, the more.",
    means: "A slab holds blocks of one size under one tag, and goes back when its last block is freed. What is free in it "
      + "serves the same tag and size again, and nobody else.",
    todo: "A strong cell with much that is pinned: a few blocks that live long keep its slabs. Give those a tag of their own, "
      + "or free them. Many weak cells in a row: fewer tags would share slabs.",
  },
  {
    id: "slabs", name: "Slabs", title: "How full slabs are", wide: "narrow",
    short: "Slabs by the part of their room that is in use.",
    means: "To the right is good: full slabs waste nothing. On the left are sparse ones that a few blocks keep from going "
      + "back: that is memory to win.",
    todo: "Many on the left: after a peak, what was allocated meanwhile and stays pins them. tally frag PID names tags and sizes.",
  },
];
