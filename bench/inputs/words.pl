# For perl: strings, hashes and arrays of them. Argument: per cent of the work.
use strict;
use warnings;
my $work = $ARGV[0] / 100;
my $seed = 1;
my %count;
my @lines;
for my $i (1 .. 150000 * $work + 2000) {
    $seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
    my $line = join ' ', map { 'word' . ($seed >> $_) % 5000 } 1 .. 8;
    push @lines, $line if $i % 3;
    $count{$_}{length $line}++ for split / /, $line;
    splice @lines, 0, 10000 if @lines > 20000;
}
my @top = sort { keys %{$count{$b}} <=> keys %{$count{$a}} || $a cmp $b } keys %count;
print scalar(@lines), " $top[0]\n";
