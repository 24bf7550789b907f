"""Charts as small SVG files, for docs/: two-scale colours that work on light and dark pages."""
import html
import math

COLOURS = ("#3b78c4", "#d0762b", "#3f9a5f", "#a05bb5", "#888888")


def chart(title, x_label, y_label, series, x_range, y_range, log_y=False, width=720, height=360):
    """`series`: {name: [(x, y), ...]}, lines, or {name: [(x, y, label), ...]}, dots with labels. Points outside y_range are
    clipped at it. Returns the file's text."""
    left, right, top, bottom = 62, 16, 40, 46
    inner_w, inner_h = width - left - right, height - top - bottom

    def x_of(x):
        return left + inner_w * (x - x_range[0]) / (x_range[1] - x_range[0])

    def y_of(y):
        y = min(max(y, y_range[0]), y_range[1])
        if log_y:
            share = math.log(y / y_range[0]) / math.log(y_range[1] / y_range[0])
        else:
            share = (y - y_range[0]) / (y_range[1] - y_range[0])
        return top + inner_h * (1 - share)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
           f'aria-label="{html.escape(title)}" font-family="sans-serif" font-size="12">',
           "<style>text{fill:#444}.grid{stroke:#8884;stroke-width:1}"
           "@media (prefers-color-scheme: dark){text{fill:#ccc}}</style>",
           f'<text x="{left}" y="18" font-size="14">{html.escape(title)}</text>',
           f'<text x="{left + inner_w / 2:.0f}" y="{height - 8}" text-anchor="middle">{html.escape(x_label)}</text>',
           f'<text transform="translate(14 {top + inner_h / 2:.0f}) rotate(-90)" text-anchor="middle">'
           f"{html.escape(y_label)}</text>"]
    for y in log_ticks(*y_range) if log_y else ticks(*y_range):
        out.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}"/>'
                   f'<text x="{left - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(*x_range):
        out.append(f'<text x="{x_of(x):.1f}" y="{top + inner_h + 16}" text-anchor="middle">{x:g}</text>')
    legend_x = left + 8
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        if len(points[0]) == 3:
            taken = [(x_of(x) - 4, y_of(y) - 4, x_of(x) + 4, y_of(y) + 4) for x, y, _ in points]
            for x, y, label in reversed(points):
                box = place(x_of(x), y_of(y), 7 * len(label), width - right, taken)
                taken.append(box)
                out.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3.5" fill="{colour}"/>'
                           f'<text x="{box[0]:.1f}" y="{box[3] - 1:.1f}">{html.escape(label)}</text>')
        else:
            path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
            out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        out.append(f'<text x="{legend_x:.0f}" y="{top - 6}" style="fill:{colour}">{html.escape(name)}</text>')
        legend_x += 6.5 * len(name) + 20
    return "\n".join([*out, "</svg>", ""])


def place(x, y, text_width, limit, taken):
    """A free box (left, top, right, bottom) for a label near a dot: beside it, else further above or below."""
    for away in range(0, 80, 7):
        for left in (x + 7, x - 7 - text_width):
            for middle in (y - away, y + away):
                box = (left, middle - 5, left + text_width, middle + 5)
                if box[2] <= limit and all(box[2] < t[0] or t[2] < box[0] or box[3] < t[1] or t[3] < box[1] for t in taken):
                    return box
    return x + 7, y - 5, x + 7 + text_width, y + 5


def ticks(low, high):
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    return [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]


def log_ticks(low, high):
    return [m * 10 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
            if low <= m * 10 ** e <= high]
