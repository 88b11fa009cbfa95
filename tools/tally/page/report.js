// What report_data.h describes, in the form that the views want it in.

// {columns, rows} as objects.
const unpack = ({ columns, rows }) =>
  rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i]])));

export class Report {
  constructor(data) {
    Object.assign(this, data);
    this.tags = unpack(data.tags);
    this.events = unpack(data.events);
    this.classes = unpack(data.fragmentation);
    for (const row of [...this.tags, ...this.events, ...this.classes]) row.path = this.path(row.tag);
    this.tags.forEach((tag, i) => {
      tag.children = [];
      if (tag.parent >= 0) this.tags[tag.parent].children.push(i);
    });
  }

  path(index) {
    return index === null || index === undefined ? "(left out)" : this.paths[index];
  }
}

const within = (path, tag) => tag === "/" || path === tag || path.startsWith(tag + "/");

// Which tags are shown: those of a path and below it, or those whose path has the text in it.
export class TagFilter {
  constructor(text, paths) {
    this.text = text.trim();
    const path = this.text === "" || this.text.startsWith("/") ? this.text : "/" + this.text;
    this.tag = this.text === "" ? "/" : paths.some((known) => within(known, path)) ? path : null;
  }

  get isAll() {
    return this.tag === "/";
  }

  has(path) {
    return this.tag === null ? path.toLowerCase().includes(this.text.toLowerCase()) : within(path, this.tag);
  }

  get label() {
    return this.isAll ? "all tags" : this.tag === null ? `tags with “${this.text}”` : this.tag;
  }
}
