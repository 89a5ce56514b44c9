"""What the columns of a table of texts are usually called, folded to lower case."""

USUAL_HEADERS = frozenset(
    (
        "text",
        "texts",
        "label",
        "labels",
        "id",
        "content",
        "sentence",
        "review",
        "comment",
        "message",
        "body",
        "title",
        "class",
        "category",
        "sentiment",
        "target",
        "split",
        "language",
        "文本",
        "内容",
        "标签",
        "评论",
        "标题",
        "类别",
    )
)
