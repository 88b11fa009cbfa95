// Stacks as one tree, whose amounts depend on what is asked for. Nothing here draws.

// profile.nodes with the frames of one function (and line, if `byLine`) below the same caller as one. Nodes are in the
// order of their making, so that a caller comes before what it calls.
function merge({ nodes, functions }, byLine) {
  const parent = [-1];
  const callee = [-1];
  const line = [0];
  const into = new Int32Array(nodes.parent.length);
  const known = new Map();
  const lines = byLine ? 1e6 : 1;
  for (let i = 1; i < nodes.parent.length; ++i) {
    const caller = into[nodes.parent[i]];
    const key = (caller * functions.length + nodes.function[i]) * lines + (byLine ? nodes.line[i] % lines : 0);
    let node = known.get(key);
    if (node === undefined) {
      node = parent.length;
      known.set(key, node);
      parent.push(caller);
      callee.push(nodes.function[i]);
      line.push(nodes.line[i]);
    } else if (line[node] !== nodes.line[i]) {
      line[node] = 0;  // several
    }
    into[i] = node;
  }
  return { parent, callee, line, into };
}

// C++ as people write it.
function readable(name) {
  return name.includes("std::") ? name
    .replaceAll("std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string")
    .replaceAll(/, std::allocator<[^<>]*> ?(?=>)/g, "").replaceAll("std::__cxx11::", "std::") : name;
}

export class Stacks {
  constructor(profile, paths, byLine) {
    this.profile = profile;
    this.paths = paths;
    Object.assign(this, merge(profile, byLine));
    this.size = this.parent.length;
    this.depth = new Int32Array(this.size);
    this.children = Array.from({ length: this.size }, () => []);
    for (let i = 1; i < this.size; ++i) {
      this.depth[i] = this.depth[this.parent[i]] + 1;
      this.children[this.parent[i]].push(i);
    }
    this.names = profile.functions.map(([name]) => readable(profile.strings[name]));
    this.modules = profile.functions.map(([, , module]) => profile.strings[module]);
    this.files = profile.functions.map(([, file]) => profile.strings[file]);
  }

  name(node) {
    return node === 0 ? "all" : this.names[this.callee[node]];
  }

  module(node) {
    return node === 0 ? "" : this.modules[this.callee[node]];
  }

  place(node) {
    const file = node === 0 ? "" : this.files[this.callee[node]];
    return file && this.line[node] ? `${file}:${this.line[node]}` : file;
  }

  amounts(metric, unit) {
    return unit === "objects" ? this.profile.sites.objects[metric] : this.profile.sites[metric];
  }

  // Sums of an amount over the sites whose tags the filter has. Where less than nothing grew, nothing did.
  weigh(metric, unit, filter) {
    const { sites } = this.profile;
    const amounts = this.amounts(metric, unit);
    const own = new Float64Array(this.size);
    const has = this.paths.map((path) => filter.has(path));
    for (let i = 0; i < amounts.length; ++i) {
      if (has[sites.tag[i]]) own[this.into[sites.node[i]]] += amounts[i];
    }
    const total = own.map((value) => Math.max(0, value));
    this.own = total.slice();
    for (let i = this.size - 1; i > 0; --i) total[this.parent[i]] += total[i];
    this.total = total;
    for (const list of this.children) list.sort((one, other) => total[other] - total[one]);
  }

  // From the outermost frame down to `node`.
  pathTo(node) {
    const path = [];
    for (let at = node; at >= 0; at = this.parent[at]) path.unshift(at);
    return path;
  }

  // What is drawn: [{node, depth, from, to}], 0 to 1, of `top` and what it calls, at least `least` wide, and of its
  // callers, who are as wide as all.
  layout(top, least) {
    const boxes = this.pathTo(top).slice(0, -1).map((node) => ({ node, depth: this.depth[node], from: 0, to: 1, above: true }));
    const whole = this.total[top];
    const put = (node, from) => {
      const width = whole > 0 ? this.total[node] / whole : node === top ? 1 : 0;
      if (width < least && node !== top) return;
      boxes.push({ node, depth: this.depth[node], from, to: from + width });
      let at = from;
      for (const child of this.children[node]) {
        if (this.total[child] <= 0) break;
        put(child, at);
        at += this.total[child] / whole;
      }
    };
    put(top, 0);
    return boxes;
  }

  // Nodes whose function, file or module matches, and what all of them hold together.
  search(test) {
    const hits = this.names.map((name, i) => test(name) || test(this.files[i]) || test(this.modules[i]));
    const found = new Uint8Array(this.size);
    const inside = new Uint8Array(this.size);
    let sum = 0;
    let frames = 0;
    for (let i = 1; i < this.size; ++i) {
      found[i] = hits[this.callee[i]] && this.total[i] > 0 ? 1 : 0;
      frames += found[i];
      inside[i] = inside[this.parent[i]];
      if (found[i] && !inside[i]) {
        sum += this.total[i];
        inside[i] = 1;
      }
    }
    return { found, sum, frames };
  }

  // Functions by what they allocate themselves and with all they call, each counted once a stack.
  functionsByAmount() {
    const own = new Float64Array(this.names.length);
    const total = new Float64Array(this.names.length);
    const open = new Int32Array(this.names.length);
    const walk = (node) => {
      const callee = this.callee[node];
      if (callee >= 0) {
        own[callee] += this.own[node];
        if (open[callee]++ === 0) total[callee] += this.total[node];
      }
      for (const child of this.children[node]) if (this.total[child] > 0) walk(child);
      if (callee >= 0) --open[callee];
    };
    walk(0);
    return this.names.map((name, i) => ({ name, module: this.modules[i], own: own[i], total: total[i] }))
      .filter((one) => one.total > 0);
  }

  // All amounts of one node, by tag, and how long its blocks lived.
  details(node, filter, unit) {
    const { sites, lifetimes } = this.profile;
    const sums = { live: 0, allocated: 0, peak: 0, growth: 0 };
    const tags = new Map();
    const lived = new Array(lifetimes.length + 1).fill(0);
    for (let i = 0; i < sites.node.length; ++i) {
      if (!filter.has(this.paths[sites.tag[i]])) continue;
      let at = this.into[sites.node[i]];
      while (at > node) at = this.parent[at];
      if (at !== node) continue;
      for (const metric of Object.keys(sums)) sums[metric] += this.amounts(metric, unit)[i];
      tags.set(sites.tag[i], (tags.get(sites.tag[i]) || 0) + this.amounts("live", unit)[i]);
      sites.lifetimes[i].forEach((blocks, step) => { lived[step] += blocks; });
    }
    return { sums, lived, tags: [...tags].map(([tag, value]) => [this.paths[tag], value])
      .sort((one, other) => other[1] - one[1]) };
  }
}

// A regular expression where it is one between slashes, else part of the text. Throws SyntaxError.
export function matcher(text) {
  const parts = /^\/(.+)\/(i?)$/.exec(text);
  if (parts) {
    const expression = new RegExp(parts[1], parts[2]);
    return (name) => expression.test(name);
  }
  const part = text.toLowerCase();
  return (name) => name.toLowerCase().includes(part);
}
